"""What each command of the command line does; loaded when it is asked for."""
