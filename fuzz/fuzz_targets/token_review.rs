#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = rootbridge_fuzz::token_review::check(data);
});
