#![no_main]

libfuzzer_sys::fuzz_target!(init: throughline_fuzz::begin("gguf"), |data: &[u8]| throughline_fuzz::targets::run("gguf", data));
