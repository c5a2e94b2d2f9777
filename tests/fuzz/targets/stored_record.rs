#![no_main]

#[path = "../checks.rs"]
#[expect(dead_code, reason = "the checks of the other targets")]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    checks::stored_record(data);
});
