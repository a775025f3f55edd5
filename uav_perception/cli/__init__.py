"""The ``uav-perception`` command: one file a subcommand, no logic here."""
