"""The commands: each module has ``add``, its arguments, and ``run``, what it does. Heavy imports happen inside."""
