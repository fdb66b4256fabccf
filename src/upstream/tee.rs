//! A second copy of a request's body, for whoever wants one: up to a size, and only as a whole.

use bytes::BytesMut;

/// Why there is no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoCopy {
    TooLarge,
    /// The body was not received to its end.
    Incomplete,
}

/// What is done with the copy, once.
type Then = Box<dyn FnOnce(Result<BytesMut, NoCopy>)>;

/// Collects the bytes of a body. Dropped before the end: there is no copy.
pub struct Tee {
    bytes: BytesMut,
    most: usize,
    then: Option<Then>,
}

impl Tee {
    /// `most` in bytes.
    pub fn new(most: usize, then: impl FnOnce(Result<BytesMut, NoCopy>) + 'static) -> Box<Self> {
        Box::new(Self { bytes: BytesMut::new(), most, then: Some(Box::new(then)) })
    }

    /// False: it is too large, and of no use from now on.
    pub(super) fn take(&mut self, data: &[u8]) -> bool {
        let fits = self.bytes.len() + data.len() <= self.most;
        match fits {
            true => self.bytes.extend_from_slice(data),
            false => self.finish(Err(NoCopy::TooLarge)),
        }
        fits
    }

    pub(super) fn end(mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.finish(Ok(bytes));
    }

    fn finish(&mut self, result: Result<BytesMut, NoCopy>) {
        if let Some(then) = self.then.take() {
            then(result);
        }
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        self.finish(Err(NoCopy::Incomplete));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    #[test]
    fn a_copy_is_whole_or_there_is_none() {
        let told = Rc::new(RefCell::new(Vec::new()));
        let tee = || {
            let told = told.clone();
            Tee::new(4, move |result| told.borrow_mut().push(result.map(|bytes| bytes.to_vec())))
        };
        let mut whole = tee();
        assert!(whole.take(b"ab") && whole.take(b"cd"));
        whole.end();
        let mut large = tee();
        assert!(large.take(b"abc") && !large.take(b"de"));
        drop(large);
        let mut half = tee();
        assert!(half.take(b"a"));
        drop(half);
        let expected = [Ok(b"abcd".to_vec()), Err(NoCopy::TooLarge), Err(NoCopy::Incomplete)];
        assert_eq!(*told.borrow(), expected);
    }
}
