//! Frames on their way to a client: collected in spare buffers of the worker, so that those of many streams leave in one
//! write and nothing is held while there are none.
use crate::io::Buffers;
use crate::stream::Writer;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

/// Buffers written at once.
const PIECES: usize = 8;

/// See the module.
pub(super) struct Out {
    spare: Rc<Buffers>,
    buffers: VecDeque<Vec<u8>>,
    /// How much of the first buffer the socket has.
    written: usize,
    /// How much the socket does not have.
    waiting: usize,
}

impl Out {
    /// Takes its memory from there.
    pub(super) fn new(spare: Rc<Buffers>) -> Self {
        Self { spare, buffers: VecDeque::new(), written: 0, waiting: 0 }
    }

    /// How many bytes wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Appends.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        self.waiting += bytes.len();
        while !bytes.is_empty() {
            let last = match self.buffers.back_mut() {
                Some(last) if last.len() < last.capacity() => last,
                _ => self.buffers.push_back_mut(self.spare.take()),
            };
            let n = bytes.len().min(last.capacity() - last.len());
            last.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
        }
    }

    /// What waits.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.buffers.iter().flatten().copied().collect()
    }

    /// Brings all of it to the socket.
    pub(super) fn poll_drain(&mut self, to: &Writer<'_>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.waiting > 0 {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            let mut count = 0;
            for (piece, buffer) in pieces.iter_mut().zip(&self.buffers) {
                *piece = IoSlice::new(if count == 0 { &buffer[self.written..] } else { buffer });
                count += 1;
            }
            let n = ready!(to.poll_write(cx, &pieces[..count]))?;
            self.waiting -= n;
            self.written += n;
            while let Some(first) = self.buffers.front().filter(|first| first.len() <= self.written) {
                self.written -= first.len();
                self.buffers.pop_front().into_iter().for_each(|buffer| self.spare.give(buffer));
            }
        }
        to.poll_flush(cx)
    }
}
