"""The only code that knows vendors: each leaf module knows one."""
