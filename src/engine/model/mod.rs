//! Architectures, one file each.

pub(super) mod llama;
