//! The folder of an explanation: `explanation.json`, `maps.safetensors` and
//! `report.html`. It appears whole or not at all, and can be opened again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytemuck::{cast_slice, pod_read_unaligned};
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use super::html::page;
use super::markup::is_page;
use crate::audio::Waveform;
use crate::explain::Maps;
use crate::explain::explanation::{Explanation, FORMAT, VERSION};
use crate::files::{PREFIX, check_own, check_writable, folder_of, followed, parent};
use crate::fingerprint::Fingerprint;
use crate::outside::guarded;
use crate::{Error, Result};

/// The maps' file.
pub const MAPS: &str = "maps.safetensors";
/// The description's file.
pub const EXPLANATION: &str = "explanation.json";
/// The page's file.
pub const REPORT: &str = "report.html";

/// Tensors in the maps' file that are no maps.
const FEATURES: &str = "features";
const SOUND: &str = "sound";

impl Maps {
    /// Refuses a folder that [`save`](Self::save) would refuse, before the long work.
    /// A link is followed.
    ///
    /// # Errors
    /// If it exists and this program did not write it, or its parent does not
    /// exist or cannot be written.
    pub fn check_folder(folder: &Path) -> Result<()> {
        let folder = &followed(folder);
        if folder.file_name().is_none() {
            return Err(Error::file(folder, "is no name for a new folder"));
        }
        check_writable(parent(folder)?)?;
        if folder.symlink_metadata().is_err() || is_ours(folder) {
            return Ok(());
        }
        Err(Error::file(
            folder,
            "exists and was not written by explain; choose another with --out",
        ))
    }

    /// Refuses a folder that explains another sound than the one with this
    /// [fingerprint](crate::Sound::fingerprint): for names that a program chooses, which
    /// sounds of one name share.
    ///
    /// # Errors
    /// If the folder is an explanation, and of another sound.
    pub fn check_sound(folder: &Path, sound: Fingerprint) -> Result<()> {
        let bytes = crate::plain::read(&folder.join(EXPLANATION)).unwrap_or_default();
        let found: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        match found["audio"]["fingerprint"].as_str() {
            // Earlier versions did not say.
            None => Ok(()),
            Some(own) if own == sound.to_string() => Ok(()),
            Some(_) => Err(Error::file(
                folder,
                "explains another sound of that name; choose another folder with --out, or remove it",
            )),
        }
    }

    /// Writes the explanation, its maps and its page into `folder`, which
    /// appears whole or not at all. Only a folder that this wrote itself is
    /// replaced.
    ///
    /// # Errors
    /// If the folder is refused by [`check_folder`](Self::check_folder) or
    /// cannot be written.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        write(folder.as_ref(), self)
    }

    /// Opens a folder that [`save`](Self::save) wrote; the maps are equal to
    /// those that were saved.
    ///
    /// # Errors
    /// If it is no such folder, was written by a version that is not known, or
    /// its files do not belong together.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let path = folder.join(EXPLANATION);
        let bytes = crate::plain::read(&path).map_err(|problem| Error::file(&path, problem))?;
        let value: Value =
            serde_json::from_slice(&bytes).map_err(|problem| Error::file(&path, problem))?;
        if value["format"] != FORMAT {
            return Err(Error::file(&path, format!("is no {FORMAT}")));
        }
        if value["version"] != VERSION {
            let found = &value["version"];
            let problem = format!("has version {found}; this program reads version {VERSION}");
            return Err(Error::file(&path, problem));
        }
        let explanation: Explanation =
            serde_json::from_value(value).map_err(|problem| Error::file(&path, problem))?;

        let path = folder.join(MAPS);
        let bytes = crate::plain::read(&path).map_err(|problem| Error::file(&path, problem))?;
        let tensors = guarded("safetensors", || SafeTensors::deserialize(&bytes));
        let tensors = tensors
            .map_err(|problem| Error::file(&path, problem))?
            .map_err(|problem| Error::file(&path, problem))?;
        let values = |name: &str, shape: &[usize]| -> Result<Vec<f32>> {
            let tensor = tensors.tensor(name);
            let tensor = tensor.map_err(|problem| Error::file(&path, problem))?;
            if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                let (kind, found) = (tensor.dtype(), tensor.shape());
                let problem =
                    format!("{name} is {kind:?} {found:?}; {EXPLANATION} says F32 {shape:?}");
                return Err(Error::file(&path, problem));
            }
            Ok(tensor
                .data()
                .chunks_exact(4)
                .map(pod_read_unaligned)
                .collect())
        };
        let model = &explanation.model;
        let features = values(FEATURES, &[model.frames, model.mel_bins])?;
        let maps = explanation.maps.iter();
        let maps = maps.map(|info| values(&info.name, &info.shape));
        let maps = maps.collect::<Result<_>>()?;
        let sound = match tensors.tensor(SOUND) {
            Ok(sound) => Some(values(SOUND, &[sound.shape().iter().product()])?),
            Err(_) => None,
        };
        let whole = Self::new(explanation, features, maps).and_then(|maps| match sound {
            Some(samples) => maps.with_waveform(Arc::new(Waveform { samples })),
            None => Ok(maps),
        });
        whole.map_err(|problem| Error::file(folder, problem))
    }
}

/// Whether a folder is an explanation, and nothing else is in it: nothing else is
/// ever replaced.
fn is_ours(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let is_file_of_ours = |place: &Path| match place.file_name().and_then(|name| name.to_str()) {
        Some(EXPLANATION) => true,
        Some(MAPS) => check_own(place, has_our_mark).is_ok(),
        Some(REPORT) => check_own(place, is_page).is_ok(),
        _ => false,
    };
    for entry in entries {
        if !entry.is_ok_and(|entry| is_file_of_ours(&entry.path())) {
            return false;
        }
    }
    let Ok(bytes) = crate::plain::read(&folder.join(EXPLANATION)) else {
        return false;
    };
    serde_json::from_slice::<Value>(&bytes).is_ok_and(|value| value["format"] == FORMAT)
}

/// Whether a safetensors file begins with [`FORMAT`] among what it says of itself.
fn has_our_mark(head: &[u8]) -> bool {
    let head = String::from_utf8_lossy(head);
    head.contains(&format!("\"__metadata__\":{{\"format\":\"{FORMAT}\"}}"))
}

fn write(folder: &Path, maps: &Maps) -> Result<()> {
    Maps::check_folder(folder)?;
    let folder = &followed(folder);
    let problem = |problem: std::io::Error| Error::file(folder, problem);
    let temporary = tempfile::Builder::new()
        .prefix(PREFIX)
        .tempdir_in(parent(folder)?)
        .map_err(problem)?;
    let file = |name: &str| temporary.path().join(name);
    let mut json = serde_json::to_string_pretty(maps.explanation())
        .map_err(|problem| Error::file(folder, problem))?;
    json.push('\n');
    std::fs::write(file(EXPLANATION), json).map_err(problem)?;
    std::fs::write(file(MAPS), tensors(maps)?).map_err(problem)?;
    std::fs::write(file(REPORT), page(maps)).map_err(problem)?;
    open_to_readers(temporary.path()).map_err(problem)?;

    if !folder.exists() {
        std::fs::rename(temporary.path(), folder).map_err(problem)?;
        // It has moved: there is nothing left to remove under its old name.
        let _ = temporary.keep();
        return Ok(());
    }
    // What is there goes when `temporary` is dropped.
    exchange(temporary.path(), folder).map_err(problem)
}

/// Gives each of two folders the other's name, in one step: whoever is killed
/// or looks meanwhile finds the old or the new.
fn exchange(new: &Path, old: &Path) -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        if renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE).is_ok() {
            return Ok(());
        }
    }
    // Without such a call (or a file system that has it) the old one moves
    // aside first, and back if the new one cannot come.
    let place = tempfile::Builder::new()
        .prefix(".sonograd-old-")
        .tempdir_in(folder_of(old))?;
    let aside = place.path().join("old");
    std::fs::rename(old, &aside)?;
    std::fs::rename(new, old).or_else(|failed| {
        std::fs::rename(&aside, old)?;
        Err(failed)
    })
}

/// Temporary folders are private; the finished one is like any other.
#[cfg(unix)]
fn open_to_readers(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn open_to_readers(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

fn tensors(maps: &Maps) -> Result<Vec<u8>> {
    let features = (FEATURES, &maps.features_shape()[..], maps.features());
    let all = maps.iter().map(|map| (map.name(), map.shape(), map.data()));
    let length = [maps.sound().map_or(0, |sound| sound.samples.len())];
    let sound = maps
        .sound()
        .map(|sound| (SOUND, &length[..], &*sound.samples));
    let views = [features]
        .into_iter()
        .chain(sound)
        .chain(all)
        .map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, shape.to_vec(), cast_slice(data));
            Ok((name, view.map_err(|e| Error::file(MAPS, e))?))
        });
    let views: Vec<_> = views.collect::<Result<_>>()?;
    let format = HashMap::from([("format".to_owned(), FORMAT.to_owned())]);
    safetensors::serialize(views, Some(format)).map_err(|e| Error::file(MAPS, e))
}
