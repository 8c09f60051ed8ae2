// nearest.test.cpp: distances by hand, and which name is offered.
#include "harness/nearest.hpp"

#include <gtest/gtest.h>

namespace prnn {
namespace {

TEST(NearestName, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0u);
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  EXPECT_EQ(edit_distance("abc", ""), 3u);
  EXPECT_EQ(edit_distance("hiden", "hidden"), 1u);
  EXPECT_EQ(edit_distance("hiddenn", "hidden"), 1u);
  EXPECT_EQ(edit_distance("hidxen", "hidden"), 1u);
  EXPECT_EQ(edit_distance("hdiden", "hidden"), 1u);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
}

TEST(NearestName, OffersTheNearestAndNothingFarOff) {
  const std::vector<std::string> known = {"hidden", "batch", "h0"};
  EXPECT_EQ(nearest("hiden", known), "hidden");
  EXPECT_EQ(nearest("bacth", known), "batch");
  EXPECT_EQ(nearest("h1", known), "h0");
  EXPECT_EQ(nearest("weather", known), "");
  EXPECT_EQ(nearest("x", known), "");  // everything is near to one letter
  EXPECT_EQ(did_you_mean("hiden", known), "; did you mean 'hidden'?");
  EXPECT_EQ(did_you_mean("weather", known), "; known: hidden, batch, h0");
}

}  // namespace
}  // namespace prnn
