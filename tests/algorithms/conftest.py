"""What several tests of one algorithm start from."""

import pytest
from feddag_bench import clusters_of_four


@pytest.fixture
def three_clusters(tmp_path):
    """FedDAG on the clusters of `clusters_of_four`."""
    return clusters_of_four(tmp_path)
