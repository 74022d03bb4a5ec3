//! Writes what fuzzing begins with: `seeds FOLDER` makes `FOLDER/TARGET/N` for each target.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder = env::args_os().nth(1).map_or_else(|| PathBuf::from("corpus"), PathBuf::from);
    for target in bonafide_fuzz::TARGETS {
        let folder = folder.join(target.name);
        fs::create_dir_all(&folder)?;
        for (at, seed) in target.seeds().into_iter().enumerate() {
            fs::write(folder.join(at.to_string()), seed)?;
        }
    }
    Ok(())
}
