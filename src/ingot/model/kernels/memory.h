// Memory that a step works in: it grows with the largest step so far, so that a step allocates nothing.
#pragma once
#include <stdlib.h>
#include <string.h>

#include <memory>
#include <new>

namespace ingot {

template <class T>
class Buffer {
 public:
  // Room for `count`, aligned to a page; zero where it is new. What was held is lost when it grows.
  T* need(size_t count) {
    if (count <= size_) return memory_.get();
    const size_t bytes = ((count + count / 4) * sizeof(T) + 4095) / 4096 * 4096;
    memory_.reset((T*)aligned_alloc(4096, bytes));
    size_ = memory_ ? bytes / sizeof(T) : 0;
    if (!memory_) throw std::bad_alloc();
    memset((void*)memory_.get(), 0, bytes);
    return memory_.get();
  }

  T* get() const { return memory_.get(); }

  size_t bytes() const { return size_ * sizeof(T); }

 private:
  struct Free {
    void operator()(T* p) const { free(p); }
  };
  std::unique_ptr<T, Free> memory_;
  size_t size_ = 0;
};

}  // namespace ingot
