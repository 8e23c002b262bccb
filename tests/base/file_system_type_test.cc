#include "base/file_system_type.h"

#include "gtest/gtest.h"

namespace holdfast::base {
namespace {

TEST(FileSystemTypeTest, LocalDisksAreNoNetwork) {
  for (const auto& [magic, name] :
       {std::pair(0xef53u, "ext4"), std::pair(0x58465342u, "xfs"), std::pair(0x9123683eu, "btrfs"),
        std::pair(0x01021994u, "tmpfs"), std::pair(0x794c7630u, "overlay")}) {
    EXPECT_EQ(FileSystemTypeOf(magic).name, name);
    EXPECT_FALSE(FileSystemTypeOf(magic).network) << name;
  }
}

TEST(FileSystemTypeTest, WhatHasAServerBehindItIsNetwork) {
  for (const auto& [magic, name] :
       {std::pair(0x6969u, "nfs"), std::pair(0xff534d42u, "cifs"), std::pair(0xfe534d42u, "smb2"),
        std::pair(0x01021997u, "9p"), std::pair(0x00c36400u, "ceph"), std::pair(0x5346414fu, "afs"),
        std::pair(0x73757245u, "coda"), std::pair(0x65735546u, "fuse"), std::pair(0x0bd00bd0u, "lustre"),
        std::pair(0x01161970u, "gfs2")}) {
    EXPECT_EQ(FileSystemTypeOf(magic).name, name);
    EXPECT_TRUE(FileSystemTypeOf(magic).network) << name;
  }
}

TEST(FileSystemTypeTest, AnUnknownOneIsNamedByItsNumber) {
  EXPECT_EQ(FileSystemTypeOf(0x1234).name, "0x00001234");
  EXPECT_FALSE(FileSystemTypeOf(0x1234).network);
}

}  // namespace
}  // namespace holdfast::base
