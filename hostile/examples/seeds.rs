//! Writes the inputs that fuzzing begins with: `cargo run -p hostile --example seeds -- FOLDER`, a folder for each target.

use std::fs;
use std::io;
use std::path::PathBuf;

fn main() -> io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    for target in hostile::TARGETS {
        let place = folder.join(target.name);
        fs::create_dir_all(&place)?;
        for (number, seed) in (target.seeds)().iter().enumerate() {
            fs::write(place.join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
