// visits.hpp: the rows of a case that several processes of two programs have visited in turns (run --against): what pairs, and what follows from the samples of all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "harness/record.hpp"
#include "harness/statistics.hpp"

namespace prnn {

/// Who is visited when, and by which program first: each visit goes over all cases in an order of its own, and who begins with a case at one visit comes second at the next (ABBA).
class VisitOrder {
 public:
  struct At {
    std::size_t index = 0;
    bool swapped = false;  // the second program first
  };
  explicit VisitOrder(std::size_t cases);
  const std::vector<At>& next(Random&);

 private:
  std::vector<At> order_;
  bool is_second_ = false;
};

/// How many processes have visited a case; none where nobody took turns.
std::int64_t processes_of(const CaseRecord&);

/// Drops what one row has beyond the visits of the other: without its counterpart a visit pairs with nothing.
void equalise(CaseRecord&, CaseRecord&);

/// Of a case that the other program did not take turns at: its samples stay, as an ordinary run's.
void unpair(CaseRecord&);

/// Log ratios (mine over theirs) of the visits of a case, by pair of processes; none where the two rows cannot be paired.
std::vector<std::vector<double>> paired_visits(const CaseRecord& mine, const CaseRecord& theirs);

/// Adds what a further process found. A status that only one of them saw is the row's; of one that came too late for its visits (limits.total_s) nothing is.
void add_process(CaseRecord&, CaseRecord next, std::int64_t process);

/// Brings up to date what follows from the samples: time_s, floor_fraction, clock_mhz.
void summarise(CaseRecord&);

}  // namespace prnn
