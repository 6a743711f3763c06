"""Runs programs that nobody trusts: jails, verdicts, languages."""
