//! Gives the library the name that the loader looks for: once it is open under
//! any path, `dlopen("libcuda.so.1")` in the same process finds it.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libcuda.so.1");
}
