// Threads that go through a step together: a barrier, and two ways of sharing work out.
//
// OpenMP's own barrier spins for milliseconds before it sleeps. Where another process has one of the processors, the
// thread that waits then takes the time that the thread it waits for needs, at each of hundreds of barriers a step. This
// one spins as long as a thread may lag on a quiet machine, and sleeps.
#pragma once
#include <immintrin.h>
#include <linux/futex.h>
#include <omp.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace ingot {

class Team {
 public:
  // Everyone arrives before anyone goes on.
  void wait() {
    const int threads = omp_get_num_threads();
    if (threads == 1) {
      next_.store(0, std::memory_order_relaxed);
      return;
    }
    const uint32_t phase = phase_.load();
    if (arrived_.fetch_add(1) + 1 == threads) {
      arrived_.store(0);
      next_.store(0);
      phase_.store(phase + 1);
      if (asleep_.load()) syscall(SYS_futex, &phase_, FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
      return;
    }
    for (int i = 0; i < SPINS; i++) {
      if (phase_.load(std::memory_order_acquire) != phase) return;
      _mm_pause();
    }
    asleep_.fetch_add(1);
    while (phase_.load() == phase) syscall(SYS_futex, &phase_, FUTEX_WAIT_PRIVATE, phase, nullptr, nullptr, 0);
    asleep_.fetch_sub(1);
  }

  // work(i) for all i below `count`: each thread its own stretch; then everyone waits.
  template <class Work>
  void share(long count, const Work& work) {
    const long thread = omp_get_thread_num(), threads = omp_get_num_threads();
    for (long i = count * thread / threads, last = count * (thread + 1) / threads; i < last; i++) work(i);
    wait();
  }

  // The same, each to whoever is free.
  template <class Work>
  void deal(long count, const Work& work) {
    for (long i = next_.fetch_add(1); i < count; i = next_.fetch_add(1)) work(i);
    wait();
  }

 private:
  static constexpr int SPINS = 2000;  // about 0.1 ms

  alignas(64) std::atomic<uint32_t> phase_{0};
  std::atomic<int> asleep_{0};
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<long> next_{0};
};

}  // namespace ingot
