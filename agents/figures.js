"use strict";
/* Times in the reader's zone, and what is under the pointer (or the arrow keys) of a figure. */
(() => {
  if (window.trimtabFigures) return;
  window.trimtabFigures = true;
  const forms = {
    full: { dateStyle: "medium", timeStyle: "medium" },
    hms: { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" },
    hm: { hour: "2-digit", minute: "2-digit", hourCycle: "h23" },
    day: { day: "numeric", month: "short" },
  };
  const makers = Object.fromEntries(Object.entries(forms).map(([n, f]) => [n, new Intl.DateTimeFormat("en-GB", f)]));
  const localise = (root) => {
    for (const node of root.querySelectorAll("time[datetime]:not([data-local])")) {
      node.textContent = makers[node.dataset.f || "full"].format(new Date(node.getAttribute("datetime")));
      node.dataset.local = "";
    }
  };
  const number = (value) => value === null || value === undefined ? "–"
    : Number(value).toLocaleString("en", { maximumSignificantDigits: 4 });

  let tip = null;
  const element = (tag, className, text) => {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const hide = () => {
    tip?.remove();
    tip = null;
    document.querySelectorAll(".tt-rule").forEach((rule) => rule.remove());
  };
  const row = (line, value, unit) => {
    const made = element("div");
    const key = element("i", line.role ? `tt-${line.role}` : "");
    if (line.fill) key.style.background = line.fill;
    made.append(key, line.name, element("span", "", `${value} ${unit}`));
    return made;
  };
  const show = (area, parts, x, y, share) => {
    hide();
    tip = element("div", "tt-tip");
    tip.append(...parts);
    document.body.append(tip);
    const wide = tip.offsetWidth, tall = tip.offsetHeight;
    tip.style.left = `${Math.max(4, x + 14 + wide > innerWidth ? x - 14 - wide : x + 14)}px`;
    tip.style.top = `${Math.max(4, Math.min(y - tall / 2, innerHeight - tall - 4))}px`;
    if (share !== null) {
      const rule = element("div", "tt-rule");
      rule.style.left = `${100 * share}%`;
      area.append(rule);
    }
  };
  const headed = (text) => element("b", "", text);
  const told = (area, share, up, x, y) => {
    const plot = JSON.parse(area.dataset.plot);
    if (plot.cells) {
      const i = Math.min(plot.cells.length - 1, Math.max(0, Math.floor((1 - up) * plot.cells.length)));
      const j = Math.min(plot.cells[0].length - 1, Math.max(0, Math.floor(share * plot.cells[0].length)));
      const where = `${plot.down[0]} ${number(plot.down[1][i])} · ${plot.across[0]} ${number(plot.across[1][j])}`;
      show(area, [headed(`${number(plot.cells[i][j])} ${plot.unit}`), element("div", "", where)], x, y, null);
      return;
    }
    const n = plot.x.length, first = plot.x[0], last = plot.x[n - 1] + (plot.half ? 2 * plot.half : 0);
    let place = 0;
    if (plot.columns) place = Math.min(n - 1, Math.floor(share * n));
    else {
      const wanted = first + share * (last - first) - (plot.half || 0);
      plot.x.forEach((at, i) => { if (Math.abs(at - wanted) < Math.abs(plot.x[place] - wanted)) place = i; });
    }
    area.dataset.place = place;
    const at = plot.x[place];
    const title = plot.columns ? plot.names[place] : plot.timed ? makers.full.format(new Date(at * 1000))
      : `${plot.label} ${number(at)}`;
    const parts = [headed(title)];
    for (const line of plot.lines) {
      const value = line.y[place];
      if (value === null || (line.fill && value < 0.05)) continue;
      const interval = line.low?.length && line.low[place] !== null && line.low[place] !== undefined
        ? ` (${number(line.low[place])} – ${number(line.high[place])})` : "";
      parts.push(row(line, number(value) + interval, plot.unit || ""));
    }
    for (const mark of plot.marks || []) {
      if (Math.abs(mark.x - at) <= (last - first) / n) parts.push(element("div", `tt-${mark.kind}`, mark.text));
    }
    const centre = plot.columns ? (place + 0.5) / n : last > first ? (at + (plot.half || 0) - first) / (last - first) : 0;
    show(area, parts, x, y, centre);
  };
  document.addEventListener("pointermove", (event) => {
    const area = event.target.closest?.(".tt-area");
    if (!area) { if (tip) hide(); return; }
    const box = area.getBoundingClientRect();
    const within = (value) => Math.min(1, Math.max(0, value));
    told(area, within((event.clientX - box.left) / box.width), within((event.clientY - box.top) / box.height),
      event.clientX, event.clientY);
  });
  document.addEventListener("keydown", (event) => {
    const area = document.activeElement?.closest?.(".tt-area");
    if (!area || !["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) return;
    if (event.key === "Escape") { hide(); return; }
    const plot = JSON.parse(area.dataset.plot);
    if (!plot.x) return;
    const n = plot.x.length, step = event.key === "ArrowRight" ? 1 : -1;
    const place = Math.min(n - 1, Math.max(0, Number(area.dataset.place ?? n - 1) + step));
    const first = plot.x[0], last = plot.x[n - 1] + (plot.half ? 2 * plot.half : 0);
    const share = plot.columns ? (place + 0.5) / n : (plot.x[place] + (plot.half || 0) - first) / (last - first || 1);
    const box = area.getBoundingClientRect();
    told(area, share, 0.5, box.left + share * box.width, box.top + box.height / 2);
    event.preventDefault();
  });
  document.addEventListener("focusout", hide);
  const begin = () => {
    localise(document);
    new MutationObserver((changes) => {
      if (changes.some((change) => change.addedNodes.length)) localise(document);
    }).observe(document.body, { childList: true, subtree: true });
  };
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", begin);
  else begin();
})();
