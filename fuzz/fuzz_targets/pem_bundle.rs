#![no_main]

mod tree;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = rootbridge_fuzz::pem_bundle::check(data);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    tree::mutate(data, size, max_size, seed)
});
