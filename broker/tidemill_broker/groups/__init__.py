"""The group coordinator as a service: its log, its timers and those who wait (see `coordinators`)."""
