//! Which backend serves which mode: its own word, or that of the frontends that lead to it. One backend has one mode.
use super::super::reader::{Item, Section};
use crate::tcp::Mode;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::{Deref, Range};

/// The backends of the file by name, and what is known of their modes.
pub(super) struct Backends {
    names: Vec<String>,
    /// The mode of each so far, and who says so.
    modes: RefCell<HashMap<String, (Mode, String)>>,
    /// Where the frontend that is being read leads: name, place and path.
    used: RefCell<Vec<(String, Range<usize>, String)>>,
}

impl Backends {
    pub(super) fn read(named: &[(String, Range<usize>, Section<'_>)]) -> Self {
        let mut modes = HashMap::new();
        for (name, _, section) in named {
            let Some(item) = section.get("mode") else { continue };
            let mode = item.word();
            item.cx.mode_unknown.set(item.cx.mode_unknown.get() || mode.is_none());
            if let Some(mode) = mode {
                modes.insert(name.clone(), (mode, format!("`{}` itself", section.path)));
            }
        }
        let names = named.iter().map(|(name, ..)| name.clone()).collect();
        Self { names, modes: RefCell::new(modes), used: RefCell::default() }
    }

    /// A frontend leads there.
    pub(super) fn used(&self, item: &Item<'_>, name: &str) {
        self.used.borrow_mut().push((name.to_owned(), item.at(), item.path.clone()));
    }

    /// The frontend that was read has this mode: so have its backends, or it is a mistake.
    pub(super) fn settle(&self, frontend: &Section<'_>, mode: Mode) {
        let mut modes = self.modes.borrow_mut();
        for (name, at, path) in self.used.borrow_mut().drain(..) {
            let says = || (mode, format!("`{}` in line {}", frontend.path, frontend.cx.line(&frontend.at)));
            let (known, who) = modes.entry(name.clone()).or_insert_with(says);
            if *known != mode {
                let message = format!("backend \"{name}\" has mode \"{known}\" by {who}, this frontend has \"{mode}\"");
                let help = "a backend has one mode: give both the same, or lead this one to a backend of its own";
                frontend.cx.unfit(at, &path, message, help);
            }
        }
    }

    /// The mode of a backend.
    pub(super) fn mode(&self, name: &str) -> Mode {
        self.modes.borrow().get(name).map_or(Mode::Http, |(mode, _)| *mode)
    }
}

impl Deref for Backends {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.names
    }
}
