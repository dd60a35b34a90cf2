//! Kills the real server while clients write through its REST dialect.
