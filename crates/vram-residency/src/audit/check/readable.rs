//! The files of a log that can be read, and what is wrong with the others: one that
//! cannot be read hides nothing that stands in the rest.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, BufRead, ErrorKind, Read};

use super::files::{Files, is_log_file};
use super::report::{Fault, Finding};

/// The files of a log, those left out that cannot be read.
pub(super) struct Readable<'f> {
    files: &'f dyn Files,
    /// Those that were opened once, and why one cannot be read.
    tried: RefCell<BTreeMap<String, Option<String>>>,
}

impl<'f> Readable<'f> {
    pub(super) const fn new(files: &'f dyn Files) -> Self {
        Self {
            files,
            tried: RefCell::new(BTreeMap::new()),
        }
    }

    /// What was found to be wrong with files.
    pub(super) fn findings(&self) -> Vec<Finding> {
        let tried = self.tried.borrow();
        let refused = tried
            .iter()
            .filter_map(|(name, why)| Some((name, why.as_ref()?)));
        let finding =
            |(name, why): (&String, &String)| Finding::of_file(Fault::UnreadableFile, name, why);
        refused.map(finding).collect()
    }

    /// Whether a file opens, or went since it was listed, which is its reader's matter.
    fn opens(&self, name: &str) -> bool {
        if let Some(tried) = self.tried.borrow().get(name) {
            return tried.is_none();
        }
        match self.files.open(name) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.refuse(name, &error);
                return false;
            }
            Err(_) => {}
            Ok(_) => drop(self.tried.borrow_mut().insert(name.to_owned(), None)),
        }
        is_log_file(name)
    }

    fn refuse(&self, name: &str, error: &io::Error) {
        let why = Some(error.to_string());
        self.tried.borrow_mut().insert(name.to_owned(), why);
    }
}

impl Files for Readable<'_> {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = self.files.names()?;
        names.retain(|name| self.opens(name));
        Ok(names)
    }

    /// Of one that cannot be opened there is nothing; one that cannot be read to its end
    /// ends before.
    fn open(&self, name: &str) -> io::Result<Box<dyn BufRead + '_>> {
        match self.files.open(name) {
            Ok(reader) => Ok(Box::new(File {
                reader,
                name: name.to_owned(),
                of: self,
            })),
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.refuse(name, &error);
                Err(ErrorKind::NotFound.into())
            }
            Err(error) => Err(error),
        }
    }
}

/// A file that ends where it cannot be read on.
struct File<'f> {
    reader: Box<dyn BufRead + 'f>,
    name: String,
    of: &'f Readable<'f>,
}

impl BufRead for File<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.reader.fill_buf() {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                self.of.refuse(&self.name, &error);
                Ok(&[])
            }
            filled => filled,
        }
    }

    fn consume(&mut self, amount: usize) {
        self.reader.consume(amount);
    }
}

impl Read for File<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(to)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::super::line::CURRENT;
    use super::*;

    /// A log whose file opens once, when it is listed, and never again.
    struct Fading {
        opened: Cell<bool>,
        then: ErrorKind,
    }

    impl Files for Fading {
        fn names(&self) -> io::Result<Vec<String>> {
            Ok(vec![CURRENT.to_owned()])
        }

        fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
            match self.opened.replace(true) {
                false => Ok(Box::new(io::empty())),
                true => Err(self.then.into()),
            }
        }
    }

    #[test]
    fn a_file_that_opens_no_more_is_told_unless_it_is_gone() {
        for (then, told) in [(ErrorKind::NotFound, 0), (ErrorKind::PermissionDenied, 1)] {
            let opened = Cell::new(false);
            let files = Fading { opened, then };
            let readable = Readable::new(&files);
            assert_eq!(readable.names().unwrap(), [CURRENT]);
            let error = readable.open(CURRENT).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::NotFound, "there is nothing of it");
            assert_eq!(readable.findings().len(), told, "{then}");
        }
    }

    /// A file whose first read a signal interrupts.
    struct Signalled;

    impl Files for Signalled {
        fn names(&self) -> io::Result<Vec<String>> {
            Ok(vec![CURRENT.to_owned()])
        }

        fn open(&self, _: &str) -> io::Result<Box<dyn BufRead + '_>> {
            Ok(Box::new(io::BufReader::new(Once(false).chain(&b"x"[..]))))
        }
    }

    /// Interrupted once, then at its end.
    struct Once(bool);

    impl Read for Once {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            match std::mem::replace(&mut self.0, true) {
                false => Err(ErrorKind::Interrupted.into()),
                true => Ok(0),
            }
        }
    }

    #[test]
    fn an_interrupted_read_is_no_end() {
        let readable = Readable::new(&Signalled);
        let mut text = String::new();
        let mut file = readable.open(CURRENT).unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), readable.findings().len()), ("x", 0));
    }
}
