//! The entry point of PKCS#11 2.40: Kryoptic's library exports it to Rust, and a module to C.

use kryoptic_lib::fns::general::fn_get_function_list;
use kryoptic_lib::pkcs11::{CK_FUNCTION_LIST_PTR_PTR, CK_RV};

/// C_GetFunctionList (PKCS#11 v2.40, section 5.4).
#[allow(non_snake_case)]
#[unsafe(no_mangle)]
pub extern "C" fn C_GetFunctionList(list: CK_FUNCTION_LIST_PTR_PTR) -> CK_RV {
    fn_get_function_list(list)
}
