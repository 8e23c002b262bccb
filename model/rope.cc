#include "model/rope.h"

#include <algorithm>
#include <cmath>

namespace holdfast::model {
namespace {

// Taylor polynomials on [-pi/4, pi/4] in double: truncation below 1e-17.
double SinPolynomial(double r) {
  const double z = r * r;
  double p = -7.6471637318198165e-13;  // -1/15!
  p = p * z + 1.6059043836821613e-10;  // 1/13!
  p = p * z - 2.5052108385441720e-08;
  p = p * z + 2.7557319223985893e-06;
  p = p * z - 1.9841269841269841e-04;
  p = p * z + 8.3333333333333333e-03;
  p = p * z - 1.6666666666666667e-01;
  return r + r * z * p;
}

double CosPolynomial(double r) {
  const double z = r * r;
  double p = 4.7794773323873853e-14;  // 1/16!
  p = p * z - 1.1470745597729725e-11;
  p = p * z + 2.0876756987868099e-09;
  p = p * z - 2.7557319223985888e-07;
  p = p * z + 2.4801587301587302e-05;
  p = p * z - 1.3888888888888889e-03;
  p = p * z + 4.1666666666666667e-02;
  p = p * z - 0.5;
  return 1.0 + z * p;
}

}  // namespace

void SinCos(float x, float& sin, float& cos) {
  // pi/2 in two parts; the first has 27 trailing zero bits, so that k * kHigh is exact for |k| < 2^27.
  constexpr double kHigh = 0x1.921fb5p+0;
  constexpr double kLow = 0x1.110b4611a6263p-26;
  const double k = std::nearbyint(static_cast<double>(x) * 0.63661977236758134);
  const double r = (static_cast<double>(x) - k * kHigh) - k * kLow;
  const double s = SinPolynomial(r);
  const double c = CosPolynomial(r);
  const auto quadrant = static_cast<int64_t>(k) & 3;
  const double sin_value = (quadrant & 1) != 0 ? c : s;
  const double cos_value = (quadrant & 1) != 0 ? s : c;
  sin = static_cast<float>((quadrant & 2) != 0 ? -sin_value : sin_value);
  cos = static_cast<float>(quadrant == 1 || quadrant == 2 ? -cos_value : cos_value);
}

RopeTable::RopeTable(const RopeConfig& config, int32_t rope_dim) {
  const int32_t pairs = rope_dim / 2;
  frequencies_.resize(static_cast<size_t>(pairs));
  // Corrections of YaRN: pairs below `low` keep their frequency, above `high` it is divided by the factor.
  const double theta = config.theta;
  const auto correction = [&](double beta) {
    return rope_dim * std::log(config.original_max_positions / (beta * 2 * M_PI)) / (2 * std::log(theta));
  };
  double low = 0;
  double high = 0;
  const bool yarn = config.factor != 1.0f && config.original_max_positions > 0;
  if (yarn) {
    low = std::max(std::floor(correction(config.beta_fast)), 0.0);
    high = std::min(std::ceil(correction(config.beta_slow)), static_cast<double>(rope_dim - 1));
    if (low == high) high += 0.001;
  }
  for (int32_t i = 0; i < pairs; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(rope_dim);
    float f = 1.0f / static_cast<float>(std::pow(theta, static_cast<double>(exponent)));
    if (yarn) {
      const float ramp = static_cast<float>(std::clamp((i - low) / (high - low), 0.0, 1.0));
      const float smooth = 1.0f - ramp;
      f = f / config.factor * (1.0f - smooth) + f * smooth;
    }
    frequencies_[static_cast<size_t>(i)] = f;
  }
}

void RopeTable::Fill(int64_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    SinCos(static_cast<float>(position) * frequencies_[i], sin[i], cos[i]);
  }
}

}  // namespace holdfast::model
