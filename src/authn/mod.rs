//! Who is calling: every way of authentication yields one Caller.
