//! PKCS#11: one module, its tokens, and workers that each own a session.
