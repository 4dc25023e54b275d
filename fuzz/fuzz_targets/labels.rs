#![no_main]

libfuzzer_sys::fuzz_target!(init: throughline_fuzz::begin("labels"), |data: &[u8]| throughline_fuzz::targets::run("labels", data));
