//! Who a launched command runs as.

use std::{env, ffi::CString, io, os::unix::process::CommandExt as _, process::Command};

use nix::unistd::{Gid, Uid, User as Entry, getgrouplist, setgid, setgroups, setuid};
use thiserror::Error;

/// Why a command cannot run as the wanted user.
#[derive(Debug, Error)]
pub enum UserError {
    /// Nobody has that name or number.
    #[error("--user {0}: there is no such user; give a name or a number that `id` knows")]
    Unknown(String),
    /// Not run by sudo.
    #[error("--user without a name takes the user who called sudo, and SUDO_UID is not set; write --user=NAME")]
    NotSudo,
    /// A name that cannot be handed to the kernel.
    #[error("--user {0}: the user database is not readable ({1}); give the number of the user")]
    Database(String, io::Error),
}

/// A user with a home and a name.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct User(Entry);

impl User {
    /// The user with this name or number; the one who called sudo when there is none.
    ///
    /// # Errors
    ///
    /// When there is no such user.
    pub fn find(name: Option<&str>) -> Result<Self, UserError> {
        let sudo = || env::var("SUDO_UID").map_err(|_absent| UserError::NotSudo);
        let name = name.map_or_else(sudo, |name| Ok(name.to_owned()))?;
        let found = match name.parse() {
            Ok(number) => Entry::from_uid(Uid::from_raw(number)),
            Err(_not_a_number) => Entry::from_name(&name),
        };
        match found {
            Ok(Some(entry)) => Ok(Self(entry)),
            Ok(None) => Err(UserError::Unknown(name)),
            Err(errno) => Err(UserError::Database(name, errno.into())),
        }
    }

    /// Makes the command run as this user: ids, groups, and the variables that a login would set.
    pub(super) fn apply(&self, command: &mut Command) -> Result<(), UserError> {
        let Entry { name, uid, gid, dir, .. } = &self.0;
        let login = CString::new(name.as_str()).map_err(|_nul| UserError::Unknown(name.clone()))?;
        let groups: Vec<Gid> =
            getgrouplist(&login, *gid).map_err(|errno| UserError::Database(name.clone(), errno.into()))?;
        let (uid, gid) = (*uid, *gid);
        command.env("HOME", dir).env("USER", name).env("LOGNAME", name);
        // SAFETY: system calls only, which are allowed between fork and exec.
        unsafe {
            command.pre_exec(move || {
                setgroups(&groups)?;
                setgid(gid)?;
                setuid(uid)?;
                Ok(())
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = User::find(Some("root")).expect("root");
        assert_eq!(User::find(Some("0")).expect("0"), root);
        let error = User::find(Some("nobody-has-this-name")).expect_err("unknown").to_string();
        assert!(error.contains("no such user") && !error.contains('\n'));
    }
}
