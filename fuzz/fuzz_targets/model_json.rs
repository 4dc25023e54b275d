#![no_main]

libfuzzer_sys::fuzz_target!(init: throughline_fuzz::begin("model_json"), |data: &[u8]| throughline_fuzz::targets::run("model_json", data));
