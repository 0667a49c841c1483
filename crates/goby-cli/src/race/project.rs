//! The cargo project: where its builds go, and the directory of `goby race` beside them.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use super::args::CargoLine;
use super::toolchain::Toolchain;
use crate::exit::Usage;
use crate::text;

/// The project that the command was typed in, or that it names.
#[derive(Debug)]
pub(crate) struct Project {
    race_dir: PathBuf,
}

impl Project {
    /// Asks cargo where the project's target directory is, and makes the directory of `goby race`
    /// in it.
    ///
    /// # Errors
    /// If there is no project, or the directory cannot be made.
    pub(crate) fn find(toolchain: &Toolchain, line: &CargoLine) -> Result<Project, Usage> {
        let mut cargo = toolchain.cargo();
        cargo.args(["metadata", "--no-deps", "--format-version=1"]).stdin(Stdio::null());
        if let Some(manifest) = line.option("--manifest-path") {
            cargo.arg("--manifest-path").arg(manifest);
        }
        let output =
            cargo.output().map_err(|error| Usage::new(format!("cannot run cargo: {}", text::reason(&error))))?;
        let told = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            return Err(Usage::new(format!(
                "cargo finds no project here: {}",
                told.trim_start_matches("error: ").trim()
            )));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| Usage::new(format!("cargo metadata cannot be read: {error}")))?;
        let target = metadata["target_directory"].as_str().unwrap_or("target");
        let race_dir = Path::new(target).join("race");
        std::fs::create_dir_all(&race_dir)
            .map_err(|error| Usage::new(format!("cannot write {}: {}", race_dir.display(), text::reason(&error))))?;
        Ok(Project { race_dir })
    }

    /// Where everything under ThreadSanitizer goes: `target/race`.
    pub(crate) fn race_dir(&self) -> &Path {
        &self.race_dir
    }
}
