//! The generated document is what the model says.

use std::path::Path;

use coherence::report::{Traces, markdown};

/// `BLESS=1` writes it anew.
#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/coherence-table.md");
    let text = markdown(Traces::WithoutOmissions);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    assert!(text == golden, "{} differs; BLESS=1 writes it anew", path.display());
}
