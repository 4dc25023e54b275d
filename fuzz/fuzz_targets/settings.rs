#![no_main]

libfuzzer_sys::fuzz_target!(init: throughline_fuzz::begin("settings"), |data: &[u8]| throughline_fuzz::targets::run("settings", data));
