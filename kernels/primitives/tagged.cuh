// tagged.cuh: values that the blocks of a launch show each other while they run, as tagged words: a word carries the number of the launch that wrote it, so no
// flag, no fence and no reset between launches is needed, and a value that is wider than an access is complete once all of its words are there.
#pragma once

#include "kernels/primitives/device.cuh"

namespace prnn::PRNN_BACKEND {

/// The number of a ticket's launch, from 1 on, and of its block in that launch: every launch takes as many tickets as it has blocks.
struct TicketPlace {
  std::uint32_t launch;
  std::int64_t block;
};
PRNN_HD constexpr TicketPlace place_of_ticket(std::int64_t ticket, std::int64_t blocks) { return {std::uint32_t(ticket / blocks) + 1, ticket % blocks}; }

template <class T>
inline constexpr int kWordsOf = int(sizeof(T) / sizeof(std::uint32_t));

/// x -> words [kWordsOf<T>], `pitch` apart, the first at p.
template <class T>
PRNN_DEVICE void show_tagged(TaggedWord* p, std::int64_t pitch, const T& x, std::uint32_t tag) {
  static_assert(sizeof(T) % sizeof(std::uint32_t) == 0);
  std::uint32_t words[kWordsOf<T>];
  memcpy(words, &x, sizeof x);
  PRNN_UNROLL for (int w = 0; w < kWordsOf<T>; ++w) show_word(p + w * pitch, {words[w], tag});
}

/// Waits for the first `count` of N values that lie `next` words apart; the others stay as they are. All are read at once.
template <int N, class T>
PRNN_DEVICE void see_tagged(T (&x)[N], int count, const TaggedWord* p, std::int64_t next, std::int64_t pitch, std::uint32_t tag) {
  std::uint32_t words[N][kWordsOf<T>];
  for (;;) {
    bool there = true;
    PRNN_UNROLL for (int n = 0; n < N; ++n) {
      PRNN_UNROLL for (int w = 0; w < kWordsOf<T>; ++w) {
        if (n >= count) continue;
        const TaggedWord seen = see_word(p + n * next + w * pitch);
        words[n][w] = seen.word;
        there = there && seen.tag == tag;
      }
    }
    if (there) break;
    wait_for_word();
  }
  PRNN_UNROLL for (int n = 0; n < N; ++n) {
    if (n < count) memcpy(&x[n], words[n], sizeof(T));
  }
}

}  // namespace prnn::PRNN_BACKEND
