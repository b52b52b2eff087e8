"""What people type and read: the `halosign` command."""
