// hooks_emulated.cpp: the functions that code compiled with -fsanitize=thread calls before each of its accesses to memory, in the place of that sanitizer's
// library: their names and arguments are its interface (compiler-rt, tsan_interface.h). They may not throw.
#include <cstring>

#include "kernels/primitives/accesses_emulated.hpp"

using prnn::emulated::detail::access;
using prnn::emulated::detail::Use;

#define PRNN_HOOKS(bytes)                                                                                             \
  extern "C" void __tsan_read##bytes(void* p) { access(p, bytes, Use::read, __builtin_return_address(0)); }           \
  extern "C" void __tsan_write##bytes(void* p) { access(p, bytes, Use::write, __builtin_return_address(0)); }         \
  extern "C" void __tsan_unaligned_read##bytes(void* p) { access(p, bytes, Use::read, __builtin_return_address(0)); } \
  extern "C" void __tsan_unaligned_write##bytes(void* p) { access(p, bytes, Use::write, __builtin_return_address(0)); }
PRNN_HOOKS(1)
PRNN_HOOKS(2)
PRNN_HOOKS(4)
PRNN_HOOKS(8)
PRNN_HOOKS(16)

extern "C" {

void __tsan_read_range(void* p, unsigned long bytes) { access(p, bytes, Use::read, __builtin_return_address(0)); }
void __tsan_write_range(void* p, unsigned long bytes) { access(p, bytes, Use::write, __builtin_return_address(0)); }
void* __tsan_memcpy(void* to, const void* from, unsigned long bytes) {
  access(from, bytes, Use::read, __builtin_return_address(0));
  access(to, bytes, Use::write, __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, unsigned long bytes) {
  access(from, bytes, Use::read, __builtin_return_address(0));
  access(to, bytes, Use::write, __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int byte, unsigned long bytes) {
  access(to, bytes, Use::write, __builtin_return_address(0));
  return std::memset(to, byte, bytes);
}

// What is of no interest here.
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit(void*) {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
}

// Atomics of the host's code in the same files: of no kernel.
#define PRNN_ATOMIC_HOOKS(bits, T)                                                                                             \
  extern "C" T __tsan_atomic##bits##_load(const volatile T* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }           \
  extern "C" void __tsan_atomic##bits##_store(volatile T* p, T x, int) { __atomic_store_n(p, x, __ATOMIC_SEQ_CST); }           \
  extern "C" T __tsan_atomic##bits##_exchange(volatile T* p, T x, int) { return __atomic_exchange_n(p, x, __ATOMIC_SEQ_CST); } \
  extern "C" T __tsan_atomic##bits##_fetch_add(volatile T* p, T x, int) { return __atomic_fetch_add(p, x, __ATOMIC_SEQ_CST); } \
  extern "C" T __tsan_atomic##bits##_fetch_sub(volatile T* p, T x, int) { return __atomic_fetch_sub(p, x, __ATOMIC_SEQ_CST); } \
  extern "C" bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T x, int, int) {                   \
    return __atomic_compare_exchange_n(p, expected, x, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                             \
  }
PRNN_ATOMIC_HOOKS(8, unsigned char)
PRNN_ATOMIC_HOOKS(32, unsigned)
PRNN_ATOMIC_HOOKS(64, unsigned long)
