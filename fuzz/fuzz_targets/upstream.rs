#![no_main]

libfuzzer_sys::fuzz_target!(init: throughline_fuzz::begin("upstream"), |data: &[u8]| throughline_fuzz::targets::run("upstream", data));
