//! Containers by id or name: which cgroup is theirs.
//!
//! Engines name a container's cgroup after its 64-digit id, each in its own way ([`Engine`]); so an id, or the first digits of
//! one, is enough with every engine and asks none. Names are in files that the engines keep: Docker's
//! `containers/ID/config.v2.json`, Podman's `containers.json`, and the kubelet's links `POD_NAMESPACE_CONTAINER-ID.log`. All
//! of these are read with bounds.

use std::{
    collections::BTreeSet,
    fmt, fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use thiserror::Error;

use super::cgroup::mount_points;
use crate::object::printable::printable;

/// Digits of an id.
const ID_DIGITS: usize = 64;

/// Fewer digits of an id are taken for a name.
const LEAST_DIGITS: usize = 6;

/// The most directories of a hierarchy that are looked at.
const MAX_DIRECTORIES: usize = 100_000;

const MAX_FILE_BYTES: u64 = 64 << 20;

/// What runs a container, as its cgroup's name tells.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Engine {
    /// `docker-ID.scope`, or `docker/ID` without systemd.
    Docker,
    /// `cri-containerd-ID.scope`, or `ID` below `kubepods`, a namespace of containerd's, or anything else.
    Containerd,
    /// `crio-ID.scope`, `crio-ID`.
    CriO,
    /// `libpod-ID.scope`, `libpod-ID`.
    Podman,
    /// `lxc.payload.NAME`; it has a name instead of an id.
    Lxc,
}

impl fmt::Display for Engine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Docker => "Docker",
            Self::Containerd => "containerd",
            Self::CriO => "CRI-O",
            Self::Podman => "Podman",
            Self::Lxc => "LXC",
        })
    }
}

/// Why a container is not found.
#[derive(Debug, Error)]
pub enum ContainerError {
    /// Nothing that runs has this id or name.
    #[error(
        "no running container is called {name} ({running}); give its id as the engine lists it, or its cgroup with --cgroup DIR"
    )]
    Missing {
        /// As asked.
        name: String,
        /// What runs, in words.
        running: String,
    },
    /// More than one has it.
    #[error("{name} is more than one container: {all}; give one of these ids, or POD/CONTAINER")]
    Ambiguous {
        /// As asked.
        name: String,
        /// The ids.
        all: String,
    },
}

/// A container's cgroup.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Container {
    id: String,
    engine: Engine,
    directory: PathBuf,
}

/// Where cgroups and names are.
struct Places {
    hierarchies: Vec<PathBuf>,
    docker: PathBuf,
    podman: PathBuf,
    kubelet: PathBuf,
}

/// The directory of the cgroup of the running container with this name, id, or beginning of an id.
///
/// # Errors
///
/// When there is none, or more than one.
pub fn cgroup_of(name: &str) -> Result<PathBuf, ContainerError> {
    find(
        name,
        &Places {
            hierarchies: mount_points(),
            docker: docker_data(Path::new("/etc/docker/daemon.json")).join("containers"),
            podman: podman_storage(Path::new("/etc/containers/storage.conf"))
                .join("overlay-containers/containers.json"),
            kubelet: PathBuf::from("/var/log/containers"),
        },
    )
}

fn find(name: &str, places: &Places) -> Result<PathBuf, ContainerError> {
    let containers = containers(&places.hierarchies);
    let shown = || printable(name.as_bytes(), 100);
    let ids = ids_of(name, &containers, places);
    let ids: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
    let mut found = containers.iter().filter(|container| ids.contains(container.id.as_str()));
    match (ids.len(), found.next()) {
        (1, Some(container)) => Ok(container.directory.clone()),
        (0, _) | (_, None) => Err(ContainerError::Missing { name: shown(), running: in_words(&containers) }),
        _ => {
            let all: Vec<&str> = ids.iter().map(|id| id.get(..12).unwrap_or(id)).take(5).collect();
            Err(ContainerError::Ambiguous { name: shown(), all: all.join(" or ") })
        }
    }
}

/// The ids of the running containers that are meant.
fn ids_of(name: &str, containers: &[Container], places: &Places) -> Vec<String> {
    let digits = name.len() >= LEAST_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let begins = |container: &&Container| digits && container.id.starts_with(&name.to_ascii_lowercase());
    let is_lxc = |container: &&Container| container.engine == Engine::Lxc && container.id == name;
    let ids: Vec<String> =
        containers.iter().filter(|container| begins(container) || is_lxc(container)).map(|c| c.id.clone()).collect();
    if !ids.is_empty() {
        return ids;
    }
    let mut ids = docker_ids(name, containers, &places.docker);
    ids.extend(podman_ids(name, &places.podman));
    ids.extend(kubernetes_ids(name, &places.kubelet));
    ids.retain(|id| containers.iter().any(|container| container.id == *id));
    ids
}

/// Docker's data folder, which its configuration may have moved (dockerd(8), `data-root`).
fn docker_data(configuration: &Path) -> PathBuf {
    #[derive(Deserialize)]
    struct Daemon {
        #[serde(rename = "data-root")]
        data_root: PathBuf,
    }
    let daemon = read(configuration).and_then(|text| serde_json::from_slice::<Daemon>(&text).ok());
    let moved = daemon.map(|daemon| daemon.data_root).filter(|folder| folder.is_absolute());
    moved.unwrap_or_else(|| PathBuf::from("/var/lib/docker"))
}

/// Podman's storage folder, which its configuration may have moved (containers-storage.conf(5), `graphroot`).
fn podman_storage(configuration: &Path) -> PathBuf {
    let text = read(configuration).and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    let value = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let value = value.trim().strip_prefix('"')?.split('"').next()?;
        (key.trim() == "graphroot" && value.starts_with('/')).then(|| PathBuf::from(value))
    };
    text.lines().find_map(value).unwrap_or_else(|| PathBuf::from("/var/lib/containers/storage"))
}

fn docker_ids(name: &str, containers: &[Container], folder: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(rename = "Name")]
        name: String,
    }
    let is_it = |container: &&Container| {
        let config = read(&folder.join(&container.id).join("config.v2.json"));
        let config = config.and_then(|text| serde_json::from_slice::<Config>(&text).ok());
        config.is_some_and(|config| config.name.strip_prefix('/').unwrap_or(&config.name) == name)
    };
    containers.iter().filter(is_it).map(|container| container.id.clone()).collect()
}

fn podman_ids(name: &str, file: &Path) -> Vec<String> {
    #[derive(Deserialize)]
    struct Entry {
        id: String,
        #[serde(default)]
        names: Vec<String>,
    }
    let entries = read(file).and_then(|text| serde_json::from_slice::<Vec<Entry>>(&text).ok()).unwrap_or_default();
    entries.into_iter().filter(|entry| entry.names.iter().any(|known| known == name)).map(|entry| entry.id).collect()
}

/// A name is `POD`, `POD/CONTAINER` or `NAMESPACE/POD/CONTAINER`.
fn kubernetes_ids(name: &str, folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_DIRECTORIES);
    let ids = entries.filter_map(|entry| {
        let file = entry.file_name().into_string().ok()?;
        let (names, id) = file.strip_suffix(".log")?.rsplit_once('-')?;
        let mut parts = names.splitn(3, '_');
        let (pod, namespace, container) = (parts.next()?, parts.next()?, parts.next()?);
        let meant = [pod.to_owned(), format!("{pod}/{container}"), format!("{namespace}/{pod}/{container}")];
        meant.iter().any(|meant| meant == name).then(|| id.to_owned())
    });
    ids.collect()
}

fn read(file: &Path) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    fs::File::open(file).ok()?.take(MAX_FILE_BYTES).read_to_end(&mut text).ok()?;
    Some(text)
}

/// The containers that have a cgroup in the first hierarchy where there is any.
fn containers(hierarchies: &[PathBuf]) -> Vec<Container> {
    let mut containers: Vec<Container> = Vec::new();
    for hierarchy in hierarchies {
        let mut folders = vec![hierarchy.clone()];
        let mut next = 0;
        while next < folders.len() && folders.len() < MAX_DIRECTORIES {
            for entry in fs::read_dir(&folders[next]).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                let directory = entry.path();
                // What is below a container's cgroup is part of it.
                match identify(&directory) {
                    Some((engine, id)) => containers.push(Container { id, engine, directory }),
                    None => folders.push(directory),
                }
            }
            next += 1;
        }
        if !containers.is_empty() {
            break;
        }
    }
    containers.sort();
    containers.dedup_by(|later, earlier| later.id == earlier.id);
    containers
}

/// Whose cgroup a directory is, by its name and that of the one above.
fn identify(directory: &Path) -> Option<(Engine, String)> {
    let name = directory.file_name()?.to_str()?;
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return Some((Engine::Lxc, name.to_owned()));
    }
    let name = name.strip_suffix(".scope").unwrap_or(name);
    let (prefix, id) = name.rsplit_once('-').map_or(("", name), |(prefix, id)| (prefix, id));
    // containerd's path of older kubelets: SLICE:cri-containerd:ID.
    let (prefix, id) = id.rsplit_once(':').map_or((prefix, id), |(_, id)| ("cri-containerd", id));
    if id.len() != ID_DIGITS || !id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    let above = directory.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or_default();
    let engine = match prefix {
        "docker" => Engine::Docker,
        "" if above == "docker" => Engine::Docker,
        "" | "cri-containerd" | "nerdctl" => Engine::Containerd,
        "crio" => Engine::CriO,
        "libpod" => Engine::Podman,
        // The monitors beside them, `crio-conmon-ID` and `libpod-conmon-ID`, are no containers.
        _ => return None,
    };
    Some((engine, id.to_owned()))
}

/// `3 run: Docker 0123456789ab, ...`.
fn in_words(containers: &[Container]) -> String {
    const SHOWN: usize = 3;
    let id = |container: &Container| container.id.get(..12).unwrap_or(&container.id).to_owned();
    let mut shown: Vec<String> =
        containers.iter().take(SHOWN).map(|container| format!("{} {}", container.engine, id(container))).collect();
    if containers.len() > SHOWN {
        shown.push("...".to_owned());
    }
    match containers.len() {
        0 => "none has a cgroup that memtrace knows".to_owned(),
        count => format!("{count} run: {}", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1f0d5c1c7d2f8e9a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a";
    const B: &str = "1f0d5cffffff8e9a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1b";

    /// Paths as each engine makes them, recorded from their documentation and from running systems.
    #[test]
    fn the_cgroup_of_each_engine_is_known_by_its_path() {
        let known = [
            ("system.slice/docker-@.scope", Some(Engine::Docker)),
            ("docker/@", Some(Engine::Docker)),
            (
                "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod12.slice/docker-@.scope",
                Some(Engine::Docker),
            ),
            ("kubepods.slice/kubepods-pod12.slice/cri-containerd-@.scope", Some(Engine::Containerd)),
            ("kubepods/besteffort/pod0a1b-22/@", Some(Engine::Containerd)),
            ("system.slice/containerd.service/kubepods-pod12.slice:cri-containerd:@", Some(Engine::Containerd)),
            ("default/@", Some(Engine::Containerd)),
            ("system.slice/nerdctl-@.scope", Some(Engine::Containerd)),
            ("kubepods.slice/kubepods-pod12.slice/crio-@.scope", Some(Engine::CriO)),
            ("kubepods.slice/kubepods-pod12.slice/crio-conmon-@.scope", None),
            ("machine.slice/libpod-@.scope", Some(Engine::Podman)),
            ("user.slice/user-1000.slice/user@1000.service/user.slice/libpod-@.scope", Some(Engine::Podman)),
            ("machine.slice/libpod-conmon-@.scope", None),
            ("system.slice/redis.service", None),
            ("user.slice/user-1000.slice", None),
        ];
        for (path, engine) in known {
            let found = identify(&Path::new("/sys/fs/cgroup").join(path.replace('@', A)));
            assert_eq!(found, engine.map(|engine| (engine, A.to_owned())), "{path}");
        }
        assert_eq!(identify(Path::new("/x/lxc.payload.web")), Some((Engine::Lxc, "web".to_owned())));
    }

    #[test]
    fn a_container_is_found_by_id_and_by_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let places = Places {
            hierarchies: vec![path("empty"), path("cgroup")],
            docker: path("docker"),
            podman: path("containers.json"),
            kubelet: path("kubelet"),
        };
        for (id, cgroup) in [(A, "cgroup/docker"), (B, "cgroup/kubepods/pod7")] {
            fs::create_dir_all(path(cgroup).join(id).join("init.scope")).expect("folders");
        }
        fs::create_dir_all(path("docker").join(A)).expect("folders");
        fs::write(path("docker").join(A).join("config.v2.json"), r#"{"ID": "x", "Name": "/web"}"#).expect("a file");
        fs::write(path("containers.json"), format!(r#"[{{"id": "{B}", "names": ["store"]}}, {{"id": "gone"}}]"#))
            .expect("a file");
        fs::create_dir_all(path("kubelet")).expect("a folder");
        fs::write(path("kubelet").join(format!("shop-5_prod_cart-{B}.log")), "").expect("a file");
        let a = path("cgroup/docker").join(A);
        let b = path("cgroup/kubepods/pod7").join(B);
        for (name, directory) in [
            (A, &a),
            (&A[..12], &a),
            (&B[..8], &b),
            ("web", &a),
            ("store", &b),
            ("shop-5", &b),
            ("shop-5/cart", &b),
            ("prod/shop-5/cart", &b),
        ] {
            assert_eq!(&find(name, &places).expect(name), directory, "{name}");
        }
        assert!(matches!(find(&A[..6], &places), Err(ContainerError::Ambiguous { .. })));
        for name in ["nothing", "gone", "", "\x1b[31m", "1f0"] {
            let error = find(name, &places).expect_err(name);
            assert!(matches!(error, ContainerError::Missing { .. }), "{name}: {error}");
            assert!(!error.to_string().contains(|letter: char| letter.is_control()), "{error}");
        }
    }

    #[test]
    fn an_engines_folder_is_where_its_configuration_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("configuration");
        let usual = (PathBuf::from("/var/lib/docker"), PathBuf::from("/var/lib/containers/storage"));
        assert_eq!((docker_data(&file), podman_storage(&file)), usual);
        for text in [
            "",
            "{}",
            r#"{"data-root": 3}"#,
            r#"{"data-root": "here"}"#,
            "graphroot",
            "graphroot = here",
            "# graphroot = \"/x\"",
        ] {
            fs::write(&file, text).expect("a file");
            assert_eq!((docker_data(&file), podman_storage(&file)), usual, "{text}");
        }
        fs::write(&file, r#"{"log-driver": "local", "data-root": "/srv/docker"}"#).expect("a file");
        assert_eq!(docker_data(&file), Path::new("/srv/docker"));
        fs::write(&file, "[storage]\ndriver = \"overlay\"\n  graphroot = \"/srv/podman\" # moved\n").expect("a file");
        assert_eq!(podman_storage(&file), Path::new("/srv/podman"));
    }

    #[test]
    fn damaged_files_of_an_engine_name_nobody() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("containers.json");
        for text in ["", "[", "{}", r#"[{"id": 3}]"#, &"[".repeat(100_000)] {
            fs::write(&file, text).expect("a file");
            assert_eq!(podman_ids("web", &file), [""; 0]);
        }
    }
}
