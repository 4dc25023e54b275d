#![no_main]

libfuzzer_sys::fuzz_target!(init: throughline_fuzz::begin("author"), |data: &[u8]| throughline_fuzz::targets::run("author", data));
