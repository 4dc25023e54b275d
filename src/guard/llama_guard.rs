//! The Llama Guard family.
