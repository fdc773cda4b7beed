#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = rootbridge_fuzz::watch::check(data);
});
