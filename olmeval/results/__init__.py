"""Run folders: the response store, the long table, exporters."""
