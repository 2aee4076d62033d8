//! A browser without a window, which opens a page, runs its scripts, and gives back what became of it.

use std::{
    fs::File,
    io::BufReader,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

/// Names of the same browser.
const BROWSERS: &[&str] = &["chromium", "chromium-headless-shell", "google-chrome"];

/// A picture of a page.
pub struct Picture {
    /// Pixels, row by row.
    pub pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// How many pixels have nearly this colour.
    pub fn count(&self, colour: [u8; 3]) -> usize {
        let near = |pixel: &&[u8; 3]| pixel.iter().zip(colour).all(|(a, b)| a.abs_diff(b) <= 6);
        self.pixels.iter().filter(near).count()
    }
}

/// The document after its scripts have run, as text. `fragment` is what follows `#` in its address.
///
/// # Errors
/// When there is no browser, or it fails.
pub fn document(page: &Path, fragment: &str) -> Result<String> {
    open(page, fragment, &["--dump-dom"])
}

/// What the page looks like, 1300 pixels wide, and as tall as our pages are.
///
/// # Errors
/// When there is no browser, or it fails, or its picture cannot be read.
pub fn picture(page: &Path) -> Result<Picture> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("page.png");
    open(page, "", &["--window-size=1300,3000", &format!("--screenshot={}", file.display())])?;
    let mut reader =
        png::Decoder::new(BufReader::new(File::open(&file).context("the browser made no picture")?)).read_info()?;
    let mut bytes = vec![0; reader.output_buffer_size().context("a picture of sane size")?];
    let info = reader.next_frame(&mut bytes)?;
    let size = info.color_type.samples();
    if info.bit_depth != png::BitDepth::Eight || size < 3 {
        bail!("a picture in colour: {info:?}");
    }
    let pixels = bytes[..info.buffer_size()].chunks_exact(size).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect();
    Ok(Picture { pixels })
}

fn open(page: &Path, fragment: &str, more: &[&str]) -> Result<String> {
    let profile = tempfile::tempdir()?;
    for browser in BROWSERS {
        let mut command = Command::new(browser);
        // Run as root, it refuses its own sandbox.
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).args(more);
        command.arg(format!("file://{}#{fragment}", page.display())).stdin(Stdio::null());
        let output = match command.output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("running {browser}")),
        };
        let errors = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!("{browser} failed on {}: {errors}", page.display());
        }
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    bail!("none of {} is installed", BROWSERS.join(", "))
}
