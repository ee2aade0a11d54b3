//! One file a command.
pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod hash_password;
pub(crate) mod life;
pub(crate) mod peers;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod table;
pub(crate) mod verify;
