//! Wraps zlib's raw streams: one that deflates, one that inflates, both kept for as long as the peer of a test lives.

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use libz_sys as z;

/// What a sync flush ends with (RFC 7692, 7.2.1).
pub const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

pub struct Deflater(Box<z::z_stream>);

pub struct Inflater(Box<z::z_stream>);

/// How an inflater stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stop {
    /// All input was read, and all that comes of it written.
    Dry,
    /// A block was the last one; the rest of the input was not read.
    End,
    /// More comes of it than there is room for.
    Full,
    Malformed,
}

impl Deflater {
    pub fn new(level: c_int, bits: u8, memory: c_int, strategy: c_int) -> Self {
        let mut stream = fresh();
        // SAFETY: the stream is zeroed, as zlib wants it, and stays where it is.
        let status = unsafe {
            z::deflateInit2_(
                &mut *stream,
                level,
                z::Z_DEFLATED,
                -c_int::from(bits),
                memory,
                strategy,
                z::zlibVersion(),
                size_of::<z::z_stream>() as c_int,
            )
        };
        assert_eq!(status, z::Z_OK);
        Self(stream)
    }

    pub fn reset(&mut self) {
        // SAFETY: the stream was made by `new`.
        assert_eq!(unsafe { z::deflateReset(&mut *self.0) }, z::Z_OK);
    }

    pub fn set_dictionary(&mut self, bytes: &[u8]) {
        // SAFETY: zlib reads the bytes before it returns.
        let status = unsafe { z::deflateSetDictionary(&mut *self.0, bytes.as_ptr(), bytes.len() as u32) };
        assert_eq!(status, z::Z_OK);
    }

    /// Appends what comes of `bytes`, with the flush behind it.
    pub fn deflate(&mut self, bytes: &[u8], flush: c_int, out: &mut Vec<u8>) {
        let mut room = [0; 4096];
        self.0.next_in = bytes.as_ptr().cast_mut();
        self.0.avail_in = bytes.len() as u32;
        loop {
            self.0.next_out = room.as_mut_ptr();
            self.0.avail_out = room.len() as u32;
            // SAFETY: input and output are as long as they are said to be.
            let status = unsafe { z::deflate(&mut *self.0, flush) };
            assert!(matches!(status, z::Z_OK | z::Z_STREAM_END | z::Z_BUF_ERROR), "{status}");
            out.extend_from_slice(&room[..room.len() - self.0.avail_out as usize]);
            if self.0.avail_out > 0 || status == z::Z_STREAM_END {
                break;
            }
        }
        assert_eq!(self.0.avail_in, 0);
    }
}

impl Inflater {
    pub fn new(bits: u8) -> Self {
        let mut stream = fresh();
        // SAFETY: the stream is zeroed, as zlib wants it, and stays where it is.
        let status = unsafe {
            z::inflateInit2_(
                &mut *stream,
                -c_int::from(bits),
                z::zlibVersion(),
                size_of::<z::z_stream>() as c_int,
            )
        };
        assert_eq!(status, z::Z_OK);
        Self(stream)
    }

    pub fn reset(&mut self) {
        // SAFETY: the stream was made by `new`.
        assert_eq!(unsafe { z::inflateReset(&mut *self.0) }, z::Z_OK);
    }

    pub fn set_dictionary(&mut self, bytes: &[u8]) {
        // SAFETY: zlib reads the bytes before it returns.
        let status = unsafe { z::inflateSetDictionary(&mut *self.0, bytes.as_ptr(), bytes.len() as u32) };
        assert_eq!(status, z::Z_OK);
    }

    /// Appends what comes of `input`, up to `len_max` bytes in all, and takes what was read from its front.
    pub fn inflate(&mut self, input: &mut &[u8], out: &mut Vec<u8>, len_max: usize) -> Stop {
        let mut room = [0; 4096];
        loop {
            self.0.next_in = input.as_ptr().cast_mut();
            self.0.avail_in = input.len() as u32;
            self.0.next_out = room.as_mut_ptr();
            self.0.avail_out = room.len() as u32;
            // SAFETY: input and output are as long as they are said to be.
            let status = unsafe { z::inflate(&mut *self.0, z::Z_SYNC_FLUSH) };
            *input = &input[input.len() - self.0.avail_in as usize..];
            out.extend_from_slice(&room[..room.len() - self.0.avail_out as usize]);
            if out.len() > len_max {
                return Stop::Full;
            }
            match status {
                z::Z_STREAM_END => return Stop::End,
                z::Z_OK | z::Z_BUF_ERROR if self.0.avail_out > 0 => return Stop::Dry,
                z::Z_OK | z::Z_BUF_ERROR => {}
                _ => return Stop::Malformed,
            }
        }
    }
}

impl Drop for Deflater {
    fn drop(&mut self) {
        // SAFETY: the stream was made by `new`, and nobody uses it any more.
        unsafe { z::deflateEnd(&mut *self.0) };
    }
}

impl Drop for Inflater {
    fn drop(&mut self) {
        // SAFETY: the stream was made by `new`, and nobody uses it any more.
        unsafe { z::inflateEnd(&mut *self.0) };
    }
}

/// A stream that asks for zlib's own allocator.
fn fresh() -> Box<z::z_stream> {
    extern "C" fn allocate(_: *mut std::ffi::c_void, items: u32, size: u32) -> *mut std::ffi::c_void {
        // SAFETY: `calloc` checks the product.
        unsafe { libc_calloc(items as usize, size as usize) }
    }
    extern "C" fn release(_: *mut std::ffi::c_void, address: *mut std::ffi::c_void) {
        // SAFETY: it came from `allocate`.
        unsafe { libc_free(address) }
    }
    let mut stream = Box::new(MaybeUninit::<z::z_stream>::zeroed());
    let fields = stream.as_mut_ptr();
    // SAFETY: all other fields may be zero; the two functions may not be null in Rust.
    unsafe {
        ptr::addr_of_mut!((*fields).zalloc).write(allocate);
        ptr::addr_of_mut!((*fields).zfree).write(release);
        stream.assume_init()
    }
}

unsafe extern "C" {
    #[link_name = "calloc"]
    fn libc_calloc(count: usize, size: usize) -> *mut std::ffi::c_void;
    #[link_name = "free"]
    fn libc_free(address: *mut std::ffi::c_void);
}
