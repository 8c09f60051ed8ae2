// stream.cuh: a thread walks its channels along the sequence, the inputs of the steps ahead already under way: what seq_fused and shooting
// are made of.
//
// A step is a chain of dependent operations (65 ns), a memory access takes many such chains, and a machine at its memory's rate has tens of
// kilobytes a multiprocessor under way. So the inputs of the steps ahead are always on their way into a ring in shared memory, by
// asynchronous copies: they need no registers, and none of the six scoreboards that the special-function units of the step's gates wait on.
// (With loads into registers a wait for a gate became a wait for memory: 204 instead of 150 cycles a step on an H200.) Copies of 16 bytes, a
// quarter of a row of four steps' inputs each, because issuing them is the warp's time too: with 4 bytes a step took 231 cycles.
// Neighbouring threads are neighbouring channels; a thread has V channels, so that it reads whole words of 16-bit storage.
#pragma once

#include "kernels/fault.hpp"
#include "kernels/primitives/channel.cuh"
#include "kernels/primitives/policy.hpp"

namespace prnn::PRNN_BACKEND {

/// V neighbouring channels: weights and state, in compute type.
template <class Cell, class T, int V>
struct Lane {
  compute_t<T> a[V][Cell::kWeights], h[V][Cell::kState];
};

/// V neighbouring numbers as stored.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T x[V];
};

template <class T, int V>
PRNN_DEVICE void store_pack(T* p, const compute_t<T> (&x)[V]) {
  if constexpr (V == 1) {
    store_streaming(p, x[0]);
  } else {
    store_pair_streaming(p, x[0], x[1]);
  }
}

/// Weights of V neighbouring channels, and what they start from: the initial state or 0; to be guarded once they are needed: until then the
/// loads are under way.
template <class Cell, class T, int V>
PRNN_DEVICE void load_lane(const Layout<Cell>& at, const RecurrenceTensors<T>& t, const Place& place, bool from_initial, Lane<Cell, T, V>& lane) {
  PRNN_UNROLL for (int v = 0; v < V; ++v) {
    load_weights(at, t.a, place.d + v, lane.a[v]);
    PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) lane.h[v][i] = from_initial ? load(t.h0 + at.edge(place.b, i, place.d + v)) : compute_t<T>(0);
  }
}
template <class Cell, class T, int V>
PRNN_DEVICE void guard_lane(Lane<Cell, T, V>& lane) {
  PRNN_UNROLL for (int v = 0; v < V; ++v) guard_start<Cell>(lane.a[v], lane.h[v]);
}

/// Stores the state of V neighbouring channels, component 0 at h.
template <class Cell, class T, int V>
PRNN_DEVICE void store_lane(T* h, std::int64_t hidden, const Lane<Cell, T, V>& lane) {
  PRNN_UNROLL for (int i = 0; i < Cell::kState; ++i) {
    compute_t<T> x[V];
    PRNN_UNROLL for (int v = 0; v < V; ++v) x[v] = lane.h[v][i];
    store_pack<T, V>(h + i * hidden, x);
  }
}

/// The inputs ahead of a thread's channels, steps first .. stop - 1, of `lanes` threads side by side that walk together.
/// Shared memory of the block: a ring [kSteps, kInputs, threads] of words, one word a thread.
/// kPrefetch: steps under way, a multiple of kGroup.
/// kChunks: copied 16 bytes at a time; a lane then copies for its neighbours, so all lanes of a warp have to take part in every group.
template <class Cell, class T, int V, bool kChunks, int kPrefetch = kMostPrefetch<T>>
class InputStream {
 public:
  static constexpr int kGroup = 8;  // steps that are waited for together
  static constexpr int kSteps = kPrefetch + kGroup, kReadAhead = kGroup;
  static constexpr int kChannels = V;  // a thread
  static constexpr bool kWholeBlocks = false;
  using Word = Pack<T, V>;
  using Source = const T*;  // u

  /// Of a stream with so many steps ahead.
  PRNN_HD static constexpr std::int64_t bytes(int threads, int prefetch = kPrefetch) {
    return std::int64_t(prefetch + kGroup) * Cell::kInputs * std::int64_t(sizeof(Word)) * threads;
  }

  /// first_channel: of the threads' first lane.
  PRNN_DEVICE InputStream(unsigned char* shared, const Layout<Cell>& at, const T* u, std::int64_t first_channel, const Place& place, int lanes, std::int64_t first,
                          std::int64_t stop)
      : ring_(reinterpret_cast<Word*>(shared) + thread_index()), hidden_(at.hidden), left_((stop - first) * Cell::kInputs) {
    if constexpr (kChunks) {
      const int lane = thread_index() & (lanes - 1), chunks = lanes / kWordsACopy, chunk = lane & (chunks - 1);
      const std::int64_t channel = first_channel + chunk * (kWordsACopy * V), last = at.channels() - kWordsACopy * V;
      const Place copied = place_of_channel(at, channel < last ? channel : last);
      row_ = lane / chunks;
      from_ = u + at.u(copied.b, first, 0, copied.d) + row_ * hidden_;
      to_ = ring_ + row_ * thread_count() + (chunk * kWordsACopy - lane);
    } else {
      from_ = u + at.u(place.b, first, 0, place.d);
      to_ = ring_;
    }
    PRNN_NO_UNROLL for (int group = 0; group < kAhead; ++group) {
      copy_group();
      commit_ahead();
    }
  }

  /// Waits for the next group of kGroup steps; the group before may not be read any more.
  PRNN_DEVICE void wait() {
    read_ = read_ + kGroup == kSteps ? 0 : read_ + kGroup;
    wait_copies<kAhead - 1>();
    if constexpr (kChunks) warp_barrier();
  }
  /// Inputs of step j of the group.
  PRNN_DEVICE void read(int j, Word (&words)[Cell::kInputs]) const {
    PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) words[k] = ring_[((read_ + j) * Cell::kInputs + k) * thread_count()];
  }
  /// Once for each step j of a group, at any time between two waits: a share of the copies of a later group, over the group before. Given out
  /// a step at a time, they are issued while the step waits for its gates.
  PRNN_DEVICE void copy_ahead(int j) {
    constexpr int kCopies = kRows / kRowsACopy, kShare = (kCopies + kGroup - 1) / kGroup;
    PRNN_UNROLL for (int i = 0; i < kShare; ++i) {
      if (j * kShare + i >= kCopies) continue;
      if (row_ < left_) copy_async(reinterpret_cast<Copied*>(to_), reinterpret_cast<const Copied*>(from_));
      left_ -= kRowsACopy;
      from_ += kRowsACopy * hidden_;
      to_ += kRowsACopy * thread_count();
    }
  }
  /// All of a group's at once.
  PRNN_DEVICE void copy_group() {
    if constexpr (kChunks) {
      PRNN_UNROLL for (int j = 0; j < kGroup; ++j) copy_ahead(j);
    } else {
      PRNN_NO_UNROLL for (int j = 0; j < kGroup; ++j) copy_ahead(j);
    }
  }
  /// After the last of a group's.
  PRNN_DEVICE void commit_ahead() {
    commit_copies();
    write_ = write_ + kGroup == kSteps ? 0 : write_ + kGroup;
    if (write_ == 0) to_ -= kSteps * Cell::kInputs * thread_count();
  }

 private:
  static constexpr int kAhead = kPrefetch / kGroup, kRows = kGroup * Cell::kInputs;
  static constexpr int kWordsACopy = kChunks ? 16 / int(sizeof(Word)) : 1, kRowsACopy = kWordsACopy;  // 32 lanes copy 32 words of so many rows
  struct alignas(sizeof(Word) * kWordsACopy) Copied {
    Word words[kWordsACopy];
  };

  Word* const ring_;
  Word* to_;       // of the next copy
  const T* from_;  // the same
  const std::int64_t hidden_;
  std::int64_t left_;  // rows to copy
  int row_ = 0, write_ = 0, read_ = -kGroup;
};

/// The same for blocks as wide as their threads, by tiles: [kGroup steps x kInputs, threads] of u as matrices [B, L kInputs, D], one instruction each.
/// Rows of a kilobyte read at once, and no more of them under way than hide the latency, keep the memory's pages open: on an H200, 8 x 4096 x 8192 f32,
/// GRU in 990 us instead of 1056, LSTM in 1311 instead of 1456; a kernel that only reads and writes as much in order takes 1000 and 1305. (A fourth
/// stage: LSTM 1345. Copies of rows, 24 instructions a group: GRU 1626.)
/// Shared memory of the block: a ring [kStages, kGroup, kInputs, threads], then two PhaseBarriers a stage.
template <class Cell, int kPrefetch = kTilePrefetch>
class TileStream {
 public:
  static constexpr int kGroup = 8, kStages = kPrefetch / kGroup + 1, kReadAhead = 4, kChannels = 1;
  static constexpr bool kWholeBlocks = true;  // every thread has a channel, all of the same sequence
  using Word = Pack<float, 1>;
  using Source = TileMap;

  /// Of a stream with so many steps ahead.
  PRNN_HD static constexpr std::int64_t bytes(int threads, int prefetch = kPrefetch) {
    return (prefetch / kGroup + 1) * (kRows * std::int64_t(sizeof(Word)) * threads + 2 * std::int64_t(sizeof(PhaseBarrier)));
  }
#ifndef __CUDACC_RTC__
  static TileMap source(const Layout<Cell>& at, const float* u, int threads) { return tile_map(u, at.batch, at.seq_len * Cell::kInputs, at.hidden, kRows, threads); }
#endif

  /// All threads of the block, which has neighbouring channels of one sequence. place: the thread's.
  PRNN_DEVICE TileStream(unsigned char* shared, const TileMap& u, const Place& place, std::int64_t first, std::int64_t stop)
      : ring_(reinterpret_cast<Word*>(shared)),
        landed_(reinterpret_cast<PhaseBarrier*>(ring_ + kStages * kRows * thread_count())),
        read_(landed_ + kStages),
        u_(u),
        batch_(place.b),
        row_(first * Cell::kInputs),
        column_(place.d),
        tiles_left_(int((stop - first + kGroup - 1) / kGroup)) {
    if (thread_index() == 0) {
      PRNN_NO_UNROLL for (int stage = 0; stage < kStages; ++stage) {
        start_phases(landed_ + stage, 1);
        start_phases(read_ + stage, thread_count() / kWarp);
      }
    }
    barrier();
    PRNN_NO_UNROLL for (unsigned stage = 0; stage < kStages - 1; ++stage) copy_tile(stage);
  }

  /// Waits for the next group of kGroup steps; the group before may not be read any more.
  PRNN_DEVICE void wait() {
    if (groups_ > 0) {
      const unsigned before = groups_ - 1;
      warp_barrier();
      if (thread_index() % kWarp == 0) arrive(read_ + before % kStages);
      if (thread_index() == 0 && tiles_left_ > 0) wait_phase(read_ + before % kStages, int(before / kStages & 1));
    }
    copy_tile(groups_ + kStages - 1);
    wait_phase(landed_ + groups_ % kStages, int(groups_ / kStages & 1));
    at_ = int(groups_ % kStages) * kRows * thread_count() + thread_index();
    ++groups_;
  }
  /// Inputs of step j of the group.
  PRNN_DEVICE void read(int j, Word (&words)[Cell::kInputs]) const {
    PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) words[k] = ring_[at_ + (j * Cell::kInputs + k) * thread_count()];
  }
  /// Nothing to copy; but reads are to stay as far ahead of their use as they are written: among the gates, each wait for one waits for the other.
  PRNN_DEVICE void copy_ahead(int j) {
    if (j % kReadAhead == 0) warp_barrier();
  }
  PRNN_DEVICE void copy_group() {}
  PRNN_DEVICE void commit_ahead() {}

 private:
  static constexpr int kRows = kGroup * Cell::kInputs;

  /// By thread 0: the next tile, for group `group`.
  PRNN_DEVICE void copy_tile(unsigned group) {
    if (thread_index() != 0 || tiles_left_ <= 0) return;
    --tiles_left_;
    arrive_with_tile(landed_ + group % kStages, ring_ + group % kStages * kRows * unsigned(thread_count()), u_, batch_, row_, column_);
    row_ += kRows;
  }

  Word* const ring_;
  PhaseBarrier* const landed_;  // [kStages]
  PhaseBarrier* const read_;    // [kStages]
  const TileMap& u_;
  const std::int64_t batch_;
  std::int64_t row_;
  const std::int64_t column_;  // of thread 0, which copies
  int tiles_left_;
  unsigned groups_ = 0;  // waited for
  int at_ = 0;           // of this thread's words of the last; an index, so that the compiler sees that they are in shared memory
};
#ifndef __CUDACC_RTC__
/// Whether the machine has tiles and clusters. The emulated one does.
inline bool is_hopper(const Machine& machine) {
  const std::optional<GpuInfo> gpu = machine.gpu();
  return !gpu || gpu->sm >= 90;
}

/// How a solver copies inputs: channels a thread, and whether in chunks.
struct StreamShape {
  int channels_a_thread;
  bool in_chunks;
};
/// Whole words and chunks where the rows of a tensor [.., D] and `lanes` threads side by side allow both; else a channel a thread, by itself.
template <class T>
StreamShape stream_shape(std::int64_t hidden, int lanes) {  // lanes: that many words
  if (hidden % std::int64_t(16 / sizeof(T)) == 0 && lanes * kWordChannels<T> * int(sizeof(T)) >= 16) return {kWordChannels<T>, true};
  return {1, false};
}
/// f.template operator()<V, kChunks>() for a shape. kHasChunks: whether any has them.
template <class T, bool kHasChunks = true, class F>
void with_shape(const StreamShape& shape, F&& f) {
  if constexpr (kHasChunks) {
    if (shape.in_chunks) return f.template operator()<kWordChannels<T>, true>();
  }
  f.template operator()<1, false>();
}
#endif

/// Computes steps first .. stop - 1 of a stream: advance(v, u) a step of channel d + v from its guarded inputs. arrive() is called before step
/// `own`, keep(owned) after every step, to be predicated, not to branch: neighbouring lanes differ. groups: how many all threads of a warp
/// take, at least ceil((stop - first) / kGroup).
/// kUnrolled: whole groups in a row, the fast way; else few registers.
template <bool kUnrolled, class Cell, class T, class Stream, class Advance, class Arrive, class Keep>
PRNN_DEVICE void walk(Stream stream, std::int64_t groups, std::int64_t first, std::int64_t own, std::int64_t stop, Advance&& advance, Arrive&& arrive, Keep&& keep) {
  constexpr int V = Stream::kChannels, kGroup = Stream::kGroup;
  using Word = typename Stream::Word;
  const auto compute = [&](const Word(&words)[Cell::kInputs]) {
    PRNN_UNROLL for (int v = 0; v < V; ++v) {
      compute_t<T> inputs[Cell::kInputs];
      PRNN_UNROLL for (int k = 0; k < Cell::kInputs; ++k) inputs[k] = widen(words[k].x[v]);
      guard_inputs<Cell>(inputs);
      advance(v, inputs);
    }
  };
  std::int64_t l = first;
  for (std::int64_t group = 0; group < groups; ++group, l += kGroup) {
    stream.wait();
    const bool kept = l >= own;
    if (kUnrolled && stop - l >= kGroup && (kept || own - l >= kGroup)) {  // nearly always: no branch between two steps
      Word words[kGroup][Cell::kInputs];
      PRNN_UNROLL for (int j = 0; j < Stream::kReadAhead; ++j) stream.read(j, words[j]);
      if (l == own) arrive();
      PRNN_UNROLL for (int j = 0; j < kGroup; ++j) {
        if (j + Stream::kReadAhead < kGroup) stream.read(j + Stream::kReadAhead, words[j + Stream::kReadAhead]);
        stream.copy_ahead(j);
        compute(words[j]);
        keep(kept);
      }
    } else {
      stream.copy_group();
      PRNN_NO_UNROLL for (int j = 0; j < kGroup && l + j < stop; ++j) {
        Word words[Cell::kInputs];
        stream.read(j, words);
        if (l + j == own) arrive();
        compute(words);
        keep(PRNN_FAULT(64, l + j >= own, kept));
      }
    }
    stream.commit_ahead();
  }
  wait_copies<0>();  // the ring is free for another stream
}

}  // namespace prnn::PRNN_BACKEND
