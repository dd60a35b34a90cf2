//! Principals, tokens, grants, passwords, sessions, signatures and rate limits
