//! The memory of a context. What it holds can be kept, and put back as it was: a call then finds the project's modules evaluated,
//! and nothing of any call before it.
//!
//! The engine keeps everything of a heap, itself included, in blocks that it asks an allocator for, and makes small things in
//! larger blocks of its own. So a heap of some megabytes is some hundred blocks, and what they hold, at their addresses, is all
//! that there is to it.

use rquickjs::allocator::Allocator;
use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::ptr::{NonNull, copy_nonoverlapping, null_mut};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What stands before each block.
#[repr(C, align(16))]
struct Header {
    /// Bytes of the block, without this.
    size: usize,
    /// Where it stands among the blocks.
    place: usize,
}

/// The blocks of one heap.
#[derive(Default)]
struct Blocks {
    /// All that there are. Those that are kept come first, in the order of the image.
    all: Vec<NonNull<Header>>,
    /// How many are kept. These are neither moved nor given back while the heap lasts, whatever the engine says.
    kept: usize,
    /// What the kept ones held, the bytes too that nobody wrote.
    image: Vec<MaybeUninit<u8>>,
}

/// The memory of one context; also the allocator through which the engine has it.
#[derive(Clone, Default)]
pub(super) struct Heap(Arc<Shared>);

#[derive(Default)]
struct Shared {
    blocks: UnsafeCell<Blocks>,
    /// What all blocks take.
    bytes: AtomicUsize,
}

// SAFETY: there is one user at a time: the engine allocates under its runtime's lock, and who calls `keep` or `restore` states that
// no engine is at work. The blocks themselves may go from thread to thread.
#[allow(unsafe_code, reason = "raw blocks, which belong to the heap alone")]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[allow(unsafe_code, reason = "raw blocks, which belong to the heap alone")]
unsafe impl Sync for Shared {}

fn layout(size: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(size_of::<Header>())?, align_of::<Header>()).ok()
}

#[allow(unsafe_code, reason = "an allocator hands out raw blocks")]
impl Blocks {
    /// Takes a block that was made for this in, and returns what the engine has of it.
    ///
    /// # Safety
    /// `block` is null, or was allocated by `layout(size)` and is nobody's.
    unsafe fn add(&mut self, block: *mut u8, size: usize) -> *mut u8 {
        let Some(header) = NonNull::new(block.cast::<Header>()) else { return null_mut() };
        // SAFETY: there is room for a header, and it is aligned for one.
        unsafe { header.write(Header { size, place: self.all.len() }) };
        self.all.push(header);
        // SAFETY: the block begins behind its header, within the allocation.
        unsafe { header.add(1) }.as_ptr().cast()
    }

    /// # Safety
    /// The engine had `block` from this heap and has not given it back.
    unsafe fn header(block: *mut u8) -> NonNull<Header> {
        // SAFETY: a header stands before each block.
        unsafe { NonNull::new_unchecked(block.cast::<Header>().sub(1)) }
    }

    fn is_kept(&self, place: usize) -> bool {
        place < self.kept
    }

    /// Gives a block back that is not kept.
    ///
    /// # Safety
    /// It stands at this place, and nobody uses it any more.
    unsafe fn remove(&mut self, place: usize) {
        let header = self.all.swap_remove(place);
        if let Some(moved) = self.all.get(place) {
            // SAFETY: every header in `all` is one.
            unsafe { (*moved.as_ptr()).place = place };
        }
        // SAFETY: it is out of `all`, and was allocated so.
        unsafe { free(header) };
    }
}

/// # Safety
/// `header` is a block's, and nobody uses it any more.
#[allow(unsafe_code, reason = "gives memory back by its layout")]
unsafe fn free(header: NonNull<Header>) {
    // SAFETY: it is a header, says the caller.
    if let Some(layout) = layout(unsafe { header.as_ref() }.size) {
        // SAFETY: this is the layout by which it was allocated.
        unsafe { dealloc(header.as_ptr().cast(), layout) };
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        for header in self.all.drain(..) {
            #[allow(unsafe_code, reason = "the engine is gone: it held the heap")]
            // SAFETY: nobody has the heap any more, so no engine has a block of it.
            unsafe {
                free(header);
            }
        }
    }
}

impl Heap {
    /// Returns how many bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        self.0.bytes.load(Ordering::Relaxed)
    }

    fn grew(&self, block: *mut u8, size: usize) -> *mut u8 {
        if !block.is_null() {
            self.0.bytes.fetch_add(size, Ordering::Relaxed);
        }
        block
    }
}

#[allow(unsafe_code, reason = "the engine's own contract with its allocator is unsafe")]
impl Heap {
    /// Keeps what the heap holds now.
    ///
    /// # Safety
    /// No engine is at work in it.
    pub(super) unsafe fn keep(&self) {
        // SAFETY: nobody else uses the blocks, says the caller.
        let blocks = unsafe { &mut *self.0.blocks.get() };
        blocks.image.clear();
        for header in &blocks.all {
            // SAFETY: every header in `all` is one, and so many bytes stand behind it, of which nothing is assumed.
            let held = unsafe {
                std::slice::from_raw_parts(
                    header.add(1).as_ptr().cast::<MaybeUninit<u8>>(),
                    header.as_ref().size,
                )
            };
            blocks.image.extend_from_slice(held);
        }
        blocks.image.shrink_to_fit();
        blocks.kept = blocks.all.len();
    }

    /// Puts back what was kept, and gives back what came after.
    ///
    /// # Safety
    /// No engine is at work in it, and nobody holds a value of the engine's that was made since. What was made before and has a
    /// finalizer in Rust is still alive: the engine's side of it comes back.
    pub(super) unsafe fn restore(&self) {
        // SAFETY: nobody else uses the blocks, says the caller.
        let blocks = unsafe { &mut *self.0.blocks.get() };
        for header in blocks.all.drain(blocks.kept..) {
            // SAFETY: what is put back does not know of it.
            unsafe { free(header) };
        }
        self.0.bytes.store(blocks.image.len(), Ordering::Relaxed);
        let mut image = blocks.image.as_slice();
        for header in &blocks.all {
            // SAFETY: every header in `all` is one.
            let size = unsafe { header.as_ref() }.size;
            let (held, rest) = image.split_at(size);
            // SAFETY: so many bytes stand behind the header, and none of them are the image's.
            unsafe { copy_nonoverlapping(held.as_ptr(), header.add(1).as_ptr().cast(), size) };
            image = rest;
        }
    }
}

// SAFETY: blocks are as large as was asked, aligned to 16 bytes, and each is there until it is given back or the heap ends; kept
// ones stay until then. A size that no layout has gives null.
#[allow(unsafe_code, reason = "the engine's own contract with its allocator is unsafe")]
unsafe impl Allocator for Heap {
    fn alloc(&mut self, size: usize) -> *mut u8 {
        let Some(layout) = layout(size) else { return null_mut() };
        // SAFETY: a layout is at least as large as a header; the engine holds its lock.
        let block = unsafe { (*self.0.blocks.get()).add(alloc(layout), size) };
        self.grew(block, size)
    }

    fn calloc(&mut self, count: usize, size: usize) -> *mut u8 {
        let Some(size) = count.checked_mul(size) else { return null_mut() };
        let Some(layout) = layout(size) else { return null_mut() };
        // SAFETY: a layout is at least as large as a header; the engine holds its lock.
        let block = unsafe { (*self.0.blocks.get()).add(alloc_zeroed(layout), size) };
        self.grew(block, size)
    }

    unsafe fn dealloc(&mut self, block: *mut u8) {
        // SAFETY: the engine holds its lock, and had the block from here.
        unsafe {
            let blocks = &mut *self.0.blocks.get();
            let Header { size, place } = *Blocks::header(block).as_ptr();
            if !blocks.is_kept(place) {
                self.0.bytes.fetch_sub(size, Ordering::Relaxed);
                blocks.remove(place);
            }
        }
    }

    unsafe fn realloc(&mut self, block: *mut u8, size: usize) -> *mut u8 {
        if block.is_null() {
            return self.alloc(size);
        }
        let Some(new_layout) = layout(size) else { return null_mut() };
        // SAFETY: the engine holds its lock, and had the block from here.
        unsafe {
            let blocks = &mut *self.0.blocks.get();
            let header = Blocks::header(block);
            let Header { size: old_size, place } = *header.as_ptr();
            if blocks.is_kept(place) {
                let new = blocks.add(alloc(new_layout), size);
                if !new.is_null() {
                    copy_nonoverlapping(block, new, old_size.min(size));
                }
                return self.grew(new, size);
            }
            let Some(old_layout) = layout(old_size) else { return null_mut() };
            let moved = realloc(header.as_ptr().cast(), old_layout, new_layout.size());
            let Some(header) = NonNull::new(moved.cast::<Header>()) else { return null_mut() };
            header.write(Header { size, place });
            blocks.all[place] = header;
            self.0.bytes.fetch_sub(old_size, Ordering::Relaxed);
            self.0.bytes.fetch_add(size, Ordering::Relaxed);
            header.add(1).as_ptr().cast()
        }
    }

    unsafe fn usable_size(block: *mut u8) -> usize {
        // SAFETY: the block is of such a heap.
        unsafe { Blocks::header(block).as_ref().size }
    }
}

#[cfg(test)]
#[allow(unsafe_code, reason = "stands for the engine")]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Some numbers that look random, the same each time.
    fn next(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// What a block holds, by its address.
    type Held = BTreeMap<usize, Vec<u8>>;

    /// # Safety
    /// All blocks are of the heap and were not given back.
    unsafe fn held(blocks: impl Iterator<Item = usize>) -> Held {
        blocks
            .map(|block| {
                let pointer = block as *mut u8;
                let size = unsafe { Heap::usable_size(pointer) };
                (block, unsafe { std::slice::from_raw_parts(pointer, size) }.to_vec())
            })
            .collect()
    }

    fn scribble(heap: &mut Heap, model: &mut Held, steps: usize, state: &mut u64) {
        for _ in 0..steps {
            let size = usize::try_from(next(state) % 5_000).expect("small") + 1;
            let some = (!model.is_empty()).then(|| {
                let at = usize::try_from(next(state)).expect("64 bits") % model.len();
                *model.keys().nth(at).expect("it is there")
            });
            match (next(state) % 5, some) {
                (0 | 1, _) | (_, None) => {
                    let block = heap.calloc(1, size);
                    model.insert(block as usize, vec![0; size]);
                }
                (2, Some(block)) => {
                    model.remove(&block);
                    unsafe { heap.dealloc(block as *mut u8) };
                }
                (3, Some(block)) => {
                    let mut content = model.remove(&block).expect("it is there");
                    let new = unsafe { heap.realloc(block as *mut u8, size) };
                    let known = content.len().min(size);
                    content.resize(size, 7);
                    for (at, byte) in content.iter().enumerate().skip(known) {
                        unsafe { new.add(at).write(*byte) };
                    }
                    model.insert(new as usize, content);
                }
                (_, Some(block)) => {
                    let content = model.get_mut(&block).expect("it is there");
                    let at = usize::try_from(next(state)).expect("64 bits") % content.len();
                    content[at] = next(state) as u8;
                    unsafe { (block as *mut u8).add(at).write(content[at]) };
                }
            }
        }
        assert_eq!(unsafe { held(model.keys().copied()) }, *model);
    }

    #[test]
    fn what_was_kept_comes_back_whatever_was_done_to_it() {
        for seed in 1..=20 {
            let mut state = seed;
            let (mut heap, mut kept) = (Heap::default(), Held::new());
            scribble(&mut heap, &mut kept, 400, &mut state);
            unsafe { heap.keep() };
            for _ in 0..4 {
                let mut model = kept.clone();
                scribble(&mut heap, &mut model, 400, &mut state);
                unsafe { heap.restore() };
                assert_eq!(unsafe { held(kept.keys().copied()) }, kept, "seed {seed}");
                assert_eq!(unsafe { &*heap.0.blocks.get() }.all.len(), kept.len(), "seed {seed}");
                assert_eq!(heap.bytes(), kept.values().map(Vec::len).sum::<usize>(), "seed {seed}");
            }
        }
    }

    #[test]
    fn a_size_that_nobody_has_is_refused() {
        let mut heap = Heap::default();
        assert!(heap.alloc(usize::MAX - 3).is_null());
        assert!(heap.calloc(usize::MAX / 2, 3).is_null());
        let block = heap.alloc(10);
        assert!(unsafe { heap.realloc(block, usize::MAX - 3) }.is_null());
        unsafe { heap.dealloc(block) };
        assert!(unsafe { &*heap.0.blocks.get() }.all.is_empty());
        assert_eq!(heap.bytes(), 0);
    }
}
