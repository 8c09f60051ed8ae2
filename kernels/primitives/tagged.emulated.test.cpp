// tagged.emulated.test.cpp: words of another launch are not taken for those of this one, and tickets tell launches apart.
#include "kernels/primitives/tagged.cuh"

#include <gtest/gtest.h>

#include "kernels/ops/testing.hpp"

namespace prnn::emulated {
namespace {

struct Value {
  float a, b, c;
};

/// Values n = 0, 1 at words[n], their words two apart.
PRNN_KERNEL show_kernel(TaggedWord* words, std::uint32_t tag) {
  const float first = float(thread_index()) * 10;
  const Value value{first + 1, first + 2, first + 3};
  show_tagged(words + thread_index(), 2, value, tag);
}
PRNN_KERNEL see_kernel(const TaggedWord* words, int count, std::uint32_t tag, Value* seen) {
  Value values[2] = {{7, 7, 7}, {8, 8, 8}};
  see_tagged(values, count, words, 1, 2, tag);
  seen[0] = values[0];
  seen[1] = values[1];
}

class TaggedWords : public ::testing::Test {
 protected:
  TaggedWords() : machine_(prnn::testing::open_machine("emulated")), words_(*machine_, 6 * sizeof(TaggedWord)), seen_(*machine_, 2 * sizeof(Value)) {
    machine_->fill(words_.data(), 0, words_.bytes());
    launch(&show_kernel, 1, 2, 0, nullptr, words_.as<TaggedWord>(), 2u);
  }
  std::vector<float> see(int count, std::uint32_t tag) {
    launch(&see_kernel, 1, 1, 0, nullptr, words_.as<TaggedWord>(), count, tag, seen_.as<Value>());
    std::vector<float> values(6);
    machine_->download(values.data(), seen_.data(), seen_.bytes());
    return values;
  }
  const std::unique_ptr<Machine> machine_;
  const Buffer words_, seen_;
};

TEST_F(TaggedWords, AreSeenAsTheyWereShown) {
  EXPECT_EQ(see(2, 2), (std::vector<float>{1, 2, 3, 11, 12, 13}));
  EXPECT_EQ(see(1, 2), (std::vector<float>{1, 2, 3, 8, 8, 8}));
}

TEST_F(TaggedWords, OfAnotherLaunchAreWaitedFor) {
  EXPECT_THROW(see(2, 3), DeviceError);
  EXPECT_THROW(see(1, 1), DeviceError);
}

TEST_F(TaggedWords, AreAllWaitedFor) {
  const TaggedWord late{0, 1};  // one of six is of the launch before
  machine_->upload(words_.as<TaggedWord>() + 5, &late, sizeof late);
  EXPECT_THROW(see(2, 2), DeviceError);
  EXPECT_EQ(see(1, 2)[2], 3);
}

TEST(Tickets, TellLaunchesAndBlocksApart) {
  for (const auto& [ticket, launch, block] : std::vector<std::array<std::int64_t, 3>>{{0, 1, 0}, {3, 1, 3}, {4, 2, 0}, {9, 3, 1}}) {
    EXPECT_EQ(place_of_ticket(ticket, 4).launch, launch) << ticket;
    EXPECT_EQ(place_of_ticket(ticket, 4).block, block) << ticket;
  }
}

}  // namespace
}  // namespace prnn::emulated
