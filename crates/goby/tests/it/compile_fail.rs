//! What must not compile: each file in `tests/compile_fail`, with the compiler's words beside it.
//! They are those of the toolchain that CI runs; `TRYBUILD=overwrite` renews them, to be read
//! before they are kept.

#[test]
fn misuse_does_not_compile() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
