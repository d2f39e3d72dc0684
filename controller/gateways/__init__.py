"""TOUCHES Google, files, the network and the clock."""
