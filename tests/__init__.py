"""The specification of tchat, in running code."""
